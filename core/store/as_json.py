"""JSON that every reader takes: it knows no NaN and no infinity."""

import json
import math


def as_json(value: object, **options) -> str:
    """The value as JSON, null for a number that is none: what overflows is told as not known.

    options: of json.dumps.
    """
    return json.dumps(_numbers(value), allow_nan=False, **options)


def _numbers(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _numbers(own) for name, own in value.items()}
    return [_numbers(own) for own in value] if isinstance(value, (list, tuple)) else value
