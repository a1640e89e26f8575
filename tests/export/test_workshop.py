"""Where an export is made: on its own disk, kept for who goes on, gone when all is done."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from core import jobs
from core.errors import InputError
from core.export.workshop import SHELF, taken, workshop
from core.job_kinds import prune


def test_on_another_disk_it_lies_beside_the_export_until_that_is_done(tmp_path):
    work = tmp_path / "0123" / "work"
    work.mkdir(parents=True)
    with workshop(work, tmp_path / "out") as own:
        assert own == work
    assert work.is_dir()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as disk:
        out = Path(disk) / "exports" / "out"
        with pytest.raises(KeyboardInterrupt), workshop(work, out):
            raise KeyboardInterrupt
        assert not list(out.parent.iterdir())  # nothing was whole
        with pytest.raises(KeyboardInterrupt), workshop(work, out) as place:
            (place / SHELF).mkdir()
            raise KeyboardInterrupt
        assert [p.name for p in out.parent.iterdir()] == [".out-0123"]
        with workshop(work, out) as place:
            assert (place / SHELF).is_dir() and place.stat().st_dev == out.parent.stat().st_dev
        assert not list(out.parent.iterdir())


def test_what_is_refused_leaves_no_folder_in_that_of_the_original(tiny, tmp_path):
    inside = tiny["llama"] / "sub" / "out"
    asked = {"model": str(tiny["llama"]), "blocks": [1], "out": str(inside), "zip": False, "provenance": {}}
    with pytest.raises(InputError, match="lies in the folder of the model"):
        prune.run(asked, jobs.Progress(tmp_path))
    assert not inside.parent.exists()


def test_a_disk_without_second_names_takes_the_file_itself(tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "one", tmp_path / "two"):
        file.write_text(file.name)
        taken(file, tmp_path / "folder")
        assert (tmp_path / "folder" / file.name).read_text() == file.name
        assert file.exists() == (file.name == "one")
        monkeypatch.setattr(os, "link", link)
