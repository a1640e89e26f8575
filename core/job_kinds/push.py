"""An export sent to the hub."""

from pathlib import Path

from core.forms.hub import push
from core.jobs.progress import Progress


def run(request: dict, progress: Progress) -> dict:
    """{"url": the commit} of the request's `folder`, sent to its `repo`, `private` or not."""
    folder, repo = Path(request["folder"]), request["repo"]
    progress.report(0, 1, f"looking at the files, then sending to {repo}")
    url = push(folder, repo, request["private"])
    progress.report(1, 1, "sent")
    return {"repo": repo, "url": url}
