"""Texts and the model's own samples become the sequences of one job."""

import numpy as np
import pytest

from core import jobs
from core.calibration import own_samples
from core.calibration.corpus import available, draw, read_sources
from core.calibration.own_samples import own_sequences
from core.errors import InputError
from core.model.load import load_model
from core.texts import pack, read_texts
from core.texts.documents import SPLITS
from core.texts.form import FORM


@pytest.fixture(scope="module")
def loaded(tiny):
    return load_model(str(tiny["llama"]))


def test_texts_alone_are_packed_as_ever(loaded, text_file):
    ours = draw(loaded, read_sources(str(text_file)), "calibrate", 24, 9, 5)
    plain = pack(read_texts(text_file), loaded.tokenizer, "calibrate", 24, 9, 5)
    assert (
        ours.sha256 == plain.sha256
        and (ours.index == plain.index).all()
        and ours.form == FORM
        and ours.template == plain.template
    )


def test_own_samples_are_a_domain_beside_the_texts(loaded, text_file):
    drawn = draw(loaded, read_sources([str(text_file), "own"]), "choose", 24, 9, 5)
    assert (
        drawn.domains == (text_file.stem, "own")
        and np.bincount(drawn.domain).tolist() == [5, 4]
        and drawn.split == "choose"
    )
    texts = pack(read_texts(text_file), loaded.tokenizer, "choose", 24, 5, 5)
    assert (drawn.ids[:5] == texts.ids).all() and (
        drawn.ids[5:] == own_sequences(loaded, "choose", 24, 4, 5).ids
    ).all()
    assert len(set(drawn.index.tolist())) == 9 and drawn.mask is None and drawn.predicted == 9 * 23
    assert [s.to_json() for s in drawn.sources] == [{"path": str(text_file)}, {"path": "own"}]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (("::weight=1", "::weight=3"), [2, 6]),
        (("", "::weight=3"), [2, 6]),
        (("::weight=0", "::weight=1"), [8]),
    ],
)
def test_weights_divide_texts_and_own_samples(loaded, text_file, weights, expected):
    drawn = draw(loaded, read_sources([f"{text_file}{weights[0]}", f"own{weights[1]}"]), "calibrate", 24, 8)
    assert np.bincount(drawn.domain).tolist() == expected


def test_padded_documents_and_own_samples_count_what_is_real(loaded, text_file):
    drawn = draw(
        loaded,
        read_sources([str(text_file), "own::domain=mine"]),
        "report",
        24,
        8,
        form={"mode": "documents"},
    )
    assert drawn.domains == ("text", "mine") and drawn.form == {**FORM, "mode": "documents"}
    assert drawn.mask[4:].all() and drawn.scored[4:, 1:].all() and not drawn.scored[:, 0].any()
    alone = draw(loaded, read_sources(str(text_file)), "report", 24, 4, form={"mode": "documents"})
    assert (
        (drawn.mask[:4] == alone.mask).all()
        and (drawn.scored[:4] == alone.scored).all()
        and drawn.predicted == alone.predicted + 4 * 23
    )


def test_own_samples_of_a_job_are_drawn_once(loaded, monkeypatch):
    first = draw(loaded, read_sources("own"), "calibrate", 24, 6)
    assert first.domains == ("own",)
    monkeypatch.setattr(own_samples, "label_uniforms", lambda *_: pytest.fail("drawn again"))
    assert (draw(loaded, read_sources("own"), "calibrate", 24, 6).ids == first.ids).all()


def test_a_domain_that_has_the_name_already_keeps_it(loaded, tmp_path):
    (tmp_path / "own.csv").write_text(
        "text\n" + "\n".join(f"a row of words, number {i}".replace(",", ";") for i in range(400))
    )
    assert draw(loaded, read_sources([str(tmp_path / "own.csv"), "own"]), "calibrate", 24, 4).domains == (
        "own",
        "own-2",
    )


def test_what_there_is_to_draw_from(loaded, text_file):
    found = available(loaded, read_sources([str(text_file), "own"]), 24)
    there = {split: pack(read_texts(text_file), loaded.tokenizer, split, 24, 1).available for split in SPLITS}
    assert found["domains"] == {split: {"text": n} for split, n in there.items()}
    assert found["parts"] == [
        {"name": "texts", "weight": 1.0, "have": there},
        {"name": "own", "weight": 1.0, "have": None},
    ]
    weighed = available(loaded, read_sources([f"{text_file}::weight=3,domain=a", "own"]), 24)
    assert weighed["parts"] == [
        {"name": "a", "weight": 3.0, "have": there},
        {"name": "own", "weight": 1.0, "have": None},
    ]
    assert available(loaded, read_sources("own"), 24)["domains"] == {split: {} for split in SPLITS}


@pytest.mark.parametrize(
    ("asked", "form", "says"),
    [
        (["own", "own::weight=2"], {}, "named 2 times"),
        (["own::weight=0"], {}, "weight 0"),
        (["own::limit=3"], {}, "has no limit"),
        (["own::column=a"], {}, "own samples and has no column"),
        (["own"], {"mod": "packed"}, "no option 'mod'"),
        (None, {"mode": "loose"}, "no mode 'loose'"),
    ],
)
def test_what_cannot_be_is_one_sentence(loaded, asked, form, says):
    with pytest.raises(InputError, match=says):
        draw(loaded, read_sources(asked), "calibrate", 24, 4, form=form)


def test_a_reader_of_texts_has_no_model():
    with pytest.raises(InputError, match="no model is given"):
        read_texts(["own"])


def test_equal_work_has_equal_requests(text_file):
    usual = jobs.request_of("demo", samples=3)
    assert (
        jobs.request_of("demo", ["bundled"], form=FORM, samples=3) == usual
        and usual["texts"] is None
        and "form" not in usual
    )
    assert jobs.request_of("demo", [str(text_file)], samples=3) == jobs.request_of(
        "demo", str(text_file), samples=3
    )
    several = jobs.request_of(
        "demo", ["bundled::weight=2", str(text_file), "own"], form={"bos": "never"}, samples=3
    )
    assert several["texts"] == ["bundled::weight=2", str(text_file), "own"] and several["form"] == {
        "bos": "never"
    }
    assert str(text_file) in several["inputs"] and "own" not in several["inputs"]
