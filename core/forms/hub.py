"""Send an export to the Hugging Face hub. The token is the environment's, and is never written anywhere."""

import os
import re
from pathlib import Path

from core.errors import InputError, first_line
from core.forms.record import PROVENANCE, read_record
from core.store.runs import file_sha256

TOKEN = "HF_TOKEN"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def _check(folder: Path, repo: str) -> None:
    """Errors: InputError where `folder` is no whole export, `repo` names no repository, or no token
    is in the environment.
    """
    if not _NAME.fullmatch(repo):
        raise InputError(f"{repo[:80]!r} names no repository of the hub; give one as in 'owner/name'.")
    digests = (read_record(folder) or {}).get("files")
    if not isinstance(digests, dict):
        raise InputError(
            f"{str(folder)!r} is no export of Blockscape: it has no whole {PROVENANCE}; write one with "
            "'python -m core prune'."
        )
    for name, digest in digests.items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != digest:
            raise InputError(
                f"{name} of {str(folder)!r} is not as it was verified; write the export anew before it is "
                "sent."
            )
    if not os.environ.get(TOKEN):
        raise InputError(
            f"The hub asks who sends, and the environment has no {TOKEN}; set it before Blockscape is "
            "started."
        )
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise InputError("HF_HUB_OFFLINE is set, so nothing is sent; unset it before Blockscape is started.")


def push(folder: Path, repo: str, private: bool = True) -> str:
    """Create the repository where it is not there, send all files in one commit; the commit's address.

    Errors: InputError, as `_check`, and with what the hub answered.
    """
    _check(folder, repo)
    from huggingface_hub import HfApi

    token = os.environ[TOKEN]
    api = HfApi(token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        sent = api.upload_folder(folder_path=folder, repo_id=repo, commit_message="Pruned with Blockscape")
    except Exception as error:  # the hub client has a class for each of many
        said = first_line(error, 160).replace(token, "…")
        raise InputError(
            f"The hub did not take {repo!r} ({said}); check the token's rights and the connection."
        ) from error
    return str(sent.commit_url)
