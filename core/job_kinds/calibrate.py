"""Gradient rows of a model on texts, kept in the store."""

import logging
from dataclasses import replace
from pathlib import Path

from core.calibration.calibrate import calibrate as compute_run
from core.calibration.calibrate import run_key
from core.calibration.corpus import Read, read_sources
from core.calibration.pairs import with_pairs
from core.calibration.secants import with_secants
from core.errors import InputError
from core.ising.units import BRANCH
from core.job_kinds.common import draw_sequences, load
from core.jobs.progress import Progress
from core.model.load import LoadedModel
from core.ranks import ALONE, Ranks
from core.store.folders import home
from core.store.runs import Run, extend_run, keep_run, rewrite_meta, set_aside, shipped_run, stored_run
from core.texts import Sequences
from core.texts.places import placed
from core.texts.sequences import start_of
from core.texts.text_source import sources_of

LOG = logging.getLogger(__name__)


def run(request: dict, progress: Progress, ranks: Ranks = ALONE) -> dict | None:
    """Gradient rows of a model on texts, kept in the store under the run's key.

    Where the store held a damaged copy, the result says as `set_aside` where that is now. Of several
    ranks the first draws the sequences and has the result, the others None.
    """
    progress.report(0, request["samples"], "loading the model")
    texts = read_sources(request["texts"]) if ranks.rank == 0 else None  # a wrong one is told before the load
    loaded = load(request)
    loaded.check_length(request["length"])
    sequences, singles = ranks.agree(_drawn(request, loaded, texts, progress) if texts else None)
    key = run_key(loaded, sequences, request["sampled"], singles, request["seed"])
    aside, run = ranks.agree(_kept(key) if ranks.rank == 0 else None)
    known = run
    if run is None or (run.branches is None and loaded.seen(BRANCH).units.by == BRANCH):
        run = compute_run(
            loaded,
            sequences,
            batch=request["batch"],
            sampled=request["sampled"],
            singles=singles,
            seed=request["seed"],
            checkpointed=request.get("checkpointed", False),
            request=request,
            checkpoint=progress.work,
            report=progress.report,
            ranks=ranks,
        )
        if known is not None and run is not None:  # an earlier version's, which knows whole blocks only
            run = replace(run, secants=known.secants, pairs=known.pairs)
            extend_run(run)
        elif run is not None:  # of rank 0
            keep_run(run)
    elif ranks.rank == 0:
        _remember(run, request, sequences)
    run = _extended(run, request, loaded, texts, progress, ranks)
    if run is None:
        return None
    return {
        "key": run.key,
        "rows": len(run.rows.A),
        "blocks": run.blocks,
        "dropped": len(run.meta["dropped"]),
        "seconds": run.meta["times"]["seconds"],
        "texts": sequences.template,
        "start": start_of(sequences, loaded.tokenizer),
        **({"empty_rows": sequences.empty} if sequences.empty else {}),
        **({"set_aside": str(aside)} if aside else {}),
    }


def _extended(
    run: Run | None, request: dict, loaded: LoadedModel, texts: Read | None, progress: Progress, ranks: Ranks
) -> Run | None:
    """The run with the secants and pairs that are asked for, kept so, where it has fewer; of several ranks
    rank 0's.
    """
    run = ranks.agree(run)
    assert run is not None
    secants, pairs = request.get("secants", 0), request.get("pairs", 0)
    asked = {"batch": request["batch"], "checkpoint": progress.work, "report": progress.report}

    def drawn(count: int) -> Sequences:
        return ranks.agree(
            draw_sequences(loaded, texts, request, "choose", count, progress) if texts else None
        )

    known = len(run.secants.A[0]) if run.secants else 0
    if run.branches is not None and run.branches.secants is None:
        known = 0  # of whole blocks only
    if secants > known:
        sparing = request.get("checkpointed", False)
        added = with_secants(run, loaded, drawn(secants), checkpointed=sparing, ranks=ranks, **asked)
        run = ranks.agree(added)
        if ranks.rank == 0:
            extend_run(run)
    if pairs > (run.pairs.part.shape[1] if run.pairs else 0):
        sequences = drawn(pairs)
        if ranks.rank == 0:  # a few minutes' work of one
            run = with_pairs(run, loaded, sequences, **asked)
            extend_run(run)
    return run if ranks.rank == 0 else None


def _remember(run: Run, request: dict, sequences: Sequences) -> None:
    """A kept run of the same texts names the place where they were found now."""
    stored = home() / "runs" / run.key
    same = run.meta["texts"]["hash"] == sequences.texts_sha256
    if same and request["texts"] != run.meta["request"].get("texts") and (stored / "run.json").is_file():
        rewrite_meta(stored, lambda meta: placed(meta, sources_of(request["texts"])))


def _drawn(
    request: dict, loaded: LoadedModel, texts: Read, progress: Progress
) -> tuple[Sequences, Sequences | None]:
    """(sequences for the rows, and for the single removals if they are asked for)."""
    rows = draw_sequences(loaded, texts, request, "calibrate", request["samples"], progress)
    if not request["singles"]:
        return rows, None
    return rows, draw_sequences(loaded, texts, request, "choose", request["singles"], progress)


def _kept(key: str) -> tuple[Path | None, Run | None]:
    """(where a damaged copy of the run is set aside, the run if it is in the store or shipped)."""
    aside = set_aside(key)
    if aside:
        LOG.warning(
            "the stored run %s was damaged and is set aside in %s; it is computed again", key[:8], aside
        )
    try:
        return aside, stored_run(key)
    except InputError:  # not there (any more)
        return aside, shipped_run(key)
