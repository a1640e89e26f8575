"""One file of an export for browsers: whole, or not there."""

import errno
import zipfile

from core.forms.record import zip_export


def test_an_export_is_one_file_where_it_is_small_and_the_disk_takes_it(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"weights")
    assert zip_export(out, limit=6) is None
    made = zip_export(out)
    assert made == tmp_path / "out.zip"
    with zipfile.ZipFile(made) as archive:
        assert archive.read("out/model.safetensors") == b"weights"
    made.unlink()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    assert zip_export(out) is None and [p.name for p in tmp_path.iterdir() if p.name != "home"] == ["out"]
