"""The Couplings page without a browser."""

import pytest

from core.couplings import ESTIMATORS
from tests.app.test_explore import open_app


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_draws_the_estimator_chosen_in_explore(estimator):
    app = open_app(m="6", e=estimator)
    app.switch_page("pages/couplings.py").run()
    assert not app.exception, app.exception
    assert len(app.get("plotly_chart")) == 2 and "of the trace" in app.caption[0].value
    assert "".join(app.query_params["m"]) == "6" and "".join(app.query_params["e"]) == estimator
    for layout in ("force", "spectral"):
        app.segmented_control(key="layout").set_value(layout).run()
        assert not app.exception
