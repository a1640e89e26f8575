"""What long work keeps: files of several writers in one folder."""

import os

import numpy as np

from core.store.checkpoint import Checkpoint


def test_two_processes_may_keep_in_one_folder(tmp_path, monkeypatch):
    """As two jobs do that draw one model's own samples: each writes a file of its own, and renames it."""
    first, second = (Checkpoint(tmp_path, {}) for _ in range(2))
    real, child = os.replace, []

    def replaced(source, target):
        if not child:  # while this one is about to rename, another process writes and renames, too
            child.append(os.fork())
            if not child[0]:
                second.put("theirs", {"x": np.ones(3)})
                second.flush()
                os._exit(0)
            assert os.waitpid(child[0], 0)[1] == 0
        real(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    first.put("ours", {"x": np.zeros(3)})
    first.flush()
    second.put("more", {"x": np.zeros(2)})
    second.flush()
    found = Checkpoint(tmp_path, {})
    assert set(found.items) == {"ours", "theirs", "more"} and not found.damaged
