"""What a calibration will take, from the one batch that a `describe` job has measured."""

import math


def calibration_cost(description: dict, samples: int, singles: int) -> tuple[float, int]:
    """(seconds, peak bytes) of a calibration on the machine that made the description.

    Rows cost a forward and backward a batch; each of the N + 1 single removals a
    forward a batch; where own samples are a source, all are counted as such. More sequences take more time, not more memory: batches are equal.
    """
    batch, blocks = description["batch"], len(description["blocks"])
    rows = math.ceil(samples / batch) * description["rows_seconds"]
    single_removals = (blocks + 1) * math.ceil(singles / batch) * description["forward_seconds"]
    own = (samples + singles) * description["own_seconds"]
    return description["load_seconds"] + own + rows + single_removals, description["memory"]
