"""JSON objects that hold their own digest, so that what was cut off or changed is told from what was not."""

import hashlib
import json


def seal(data: dict) -> str:
    """The text to write: `data` with the SHA-256 of all the rest as its last entry, `digest`."""
    rest = {name: value for name, value in data.items() if name != "digest"}
    digest = hashlib.sha256(json.dumps(rest).encode()).hexdigest()
    return json.dumps({**rest, "digest": digest}, indent=1, ensure_ascii=False) + "\n"


def unseal(text: str) -> dict | None:
    """`data` of a text that `seal` made, without the digest; None for any other, even by one blank."""
    try:
        data = json.loads(text)
        whole = isinstance(data, dict) and seal(data) == text
    except (ValueError, RecursionError):
        return None
    return {name: value for name, value in data.items() if name != "digest"} if whole else None
