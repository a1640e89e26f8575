"""An export is sent to a hub: a small one of our own answers as the client's protocol has it."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from core.errors import InputError
from core.forms.hub import TOKEN, push
from core.forms.record import PROVENANCE
from core.store.runs import file_sha256

SECRET = "hf_" + "s" * 34


class _Hub(BaseHTTPRequestHandler):
    """Creates any repository, takes every file inside the commit; refuses other tokens."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {SECRET}":
            return self._answer(401, {"error": "Invalid user token."})
        if self.path.endswith("/repos/create"):
            self.server.created.append(json.loads(body))
            return self._answer(200, {"url": f"{self.server.url}/me/small"})
        if self.path.endswith("/validate-yaml"):  # of the card
            return self._answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            names = [f["path"] for f in json.loads(body)["files"]]
            return self._answer(200, {"files": [{"path": name, **mode} for name in names]})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._answer(
            200,
            {"commitUrl": f"{self.server.url}/me/small/commit/1", "commitOid": "1", "pullRequestUrl": None},
        )

    def do_GET(self):
        self._answer(404, {"error": "nothing here"})

    def _answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub(monkeypatch):
    """A hub of this machine, which the client asks."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.url, server.created, server.files = f"http://127.0.0.1:{server.server_port}", [], {}
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv(TOKEN, SECRET)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def export(tmp_path):
    """What an export's folder holds, small."""
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("card")
    files = {file.name: file_sha256(file) for file in folder.iterdir()}
    (folder / PROVENANCE).write_text(json.dumps({"removed": [1], "files": files}))
    return folder


def test_all_files_go_in_one_commit_and_the_token_nowhere(hub, export):
    url = push(export, "me/small")
    assert url == f"{hub.url}/me/small/commit/1" and hub.created[0]["visibility"] == "private"
    assert hub.files == {file.name: file.read_bytes() for file in export.iterdir()}
    assert not any(SECRET.encode() in content for content in hub.files.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"repo": "small"}, "'owner/name'"),
        ({"token": ""}, f"no {TOKEN}"),
        ({"token": "hf_other"}, "did not take 'me/small'"),
        ({"offline": "1"}, "HF_HUB_OFFLINE is set"),
        ({"file": "README.md"}, "README.md of .* is not as it was verified"),
        ({"file": PROVENANCE}, "is no export of Blockscape"),
    ],
)
def test_what_cannot_be_sent_is_told(hub, export, monkeypatch, change, says):
    if "token" in change:
        monkeypatch.setenv(TOKEN, change["token"])
    if "offline" in change:
        monkeypatch.setenv("HF_HUB_OFFLINE", change["offline"])
    if "file" in change:
        (export / change["file"]).write_text("other")
    with pytest.raises(InputError, match=says) as told:
        push(export, change.get("repo", "me/small"))
    assert not hub.files and "hf_other" not in str(told.value)
