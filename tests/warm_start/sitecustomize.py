"""Read by every Python process that a test starts, this folder being on PYTHONPATH: a worker, the fresh
process that verifies an export, that of a chat template, or a launch of several, is handed to one that has
torch already (tests/warm.py), as soon as that is ready.
"""

import os
import signal
import sys

SERVER = os.environ.get("BLOCKSCAPE_WARM")
MODULES = [
    "core.jobs",
    "core.export.verify",
    "core.export.shard_proof",
    "core.export.gguf.proof",
    "core.texts.chat_process",
    "torch.distributed.run",
]
if "TORCHELASTIC_RUN_ID" in os.environ:  # the command line of one rank; alone it needs no torch
    MODULES.append("core")


def hand_over(argv: list[str]) -> None:
    """Let the server do `python -m *argv` for this process, and end as that ends."""
    import json
    import socket

    order = {"argv": argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(SERVER)
        except (FileNotFoundError, ConnectionRefusedError):
            return
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps(order).encode() + b"\n")
        status = connection.recv(1)  # nothing when it was killed
    if not status:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(status[0])


words = [word for word in sys.orig_argv[1:] if word != "-u"]
if SERVER and words[:1] == ["-m"] and words[1] in MODULES:
    hand_over(words[1:])
