"""Arrays on their way to the browser: base64 of little-endian bytes, which the component decodes."""

import base64

import numpy as np


def encode(values: np.ndarray, dtype: str) -> str:
    """Base64 of an array as `dtype`, such as "<f8"."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()
