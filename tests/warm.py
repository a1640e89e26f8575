"""A process that has imported torch and every kind of job, and forks to do what a fresh one would:
`python -m core.jobs ID` then starts in milliseconds, not seconds.

    python -m tests.warm SOCKET     serves until its standard input ends

What a test starts stays what it is, a process with its own session, environment, output and exit code;
only its imports were made before. tests/warm_start/sitecustomize.py hands it over and waits for its end.
A fork whose client is killed ends too.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL_TYPES = ("llama", "gpt2", "mistral", "qwen2", "qwen3")


@contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """A server on a socket in `folder`; the environment in which what is started is handed to it.

    Until it has imported all, processes start as ever: nobody waits for it.
    """
    place = folder / "socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", str(place)], cwd=ROOT, stdin=subprocess.PIPE
    )
    yield {"BLOCKSCAPE_WARM": str(place), "PYTHONPATH": str(ROOT / "tests" / "warm_start")}
    process.kill()
    process.communicate()


def serve(place: str) -> None:
    """Fork for every client, until standard input ends."""
    from core import jobs

    for kind in jobs.KINDS:
        importlib.import_module(f"core.job_kinds.{kind}")
    for proof in ("verify", "shard_proof", "gguf.proof"):
        importlib.import_module(f"core.export.{proof}")
    for module in ("core.texts.chat_process", "jinja2.sandbox"):
        importlib.import_module(module)
    for model_type in MODEL_TYPES:
        importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{place}.new")
    listener.listen(64)
    os.rename(f"{place}.new", place)  # who finds it can connect
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            return
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become(connection)
        connection.close()


def _become(connection: socket.socket) -> None:
    """Be the process that the client was to be, and tell it the exit code."""
    status = 1
    try:
        os.setsid()
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        order = json.loads(connection.makefile("rb").readline())
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        sys.argv = ["-m", *order["argv"][1:]]
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        runpy.run_module(order["argv"][0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([status]))
        os._exit(status)


def _end_with(connection: socket.socket) -> None:
    """Wait for the client's end: it says nothing more."""
    try:
        connection.recv(1)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(sys.argv[1])
