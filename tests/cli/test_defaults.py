"""What commands take when nobody says: a model that is not the demo is asked nothing of the demo's world."""

import json

from core.cli.main import main


def test_another_model_is_evaluated_on_its_own_samples_and_asked_no_toy_tasks(tiny, capsys):
    main(["evaluate", "--model", str(tiny["llama"]), "--sequences", "2", "--length", "16", "--json"])
    out, said = capsys.readouterr()
    done = json.loads(out)
    assert done["tasks"] == {} and done["loss"] > 0
    assert "the model's own samples are taken" in said and "No tasks are named" in said
