"""What tests of exports share."""

import pytest

from core.export import by_shard
from core.export.shard_proof import prove_by_shard


@pytest.fixture
def proved_here(monkeypatch):
    """The proof of what goes shard by shard runs in this process: another takes seconds to start, and tests
    of it have one.
    """

    def prove(source, checkpoint, removed, probe, remote_code):
        found = prove_by_shard(str(source), checkpoint, removed, probe, remote_code)
        if found["problem"]:
            raise RuntimeError(found["problem"])
        return found

    monkeypatch.setattr(by_shard, "prove_elsewhere", prove)
