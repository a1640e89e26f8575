"""What lies on disk: runs, measurements, checkpoints of long work, and the folders they are in.

Everything is whole or absent: files are named by their digest or hold it, and take their place by one rename.
Runs are offered here; `Results` (results) holds the measurements, `Checkpoint` (checkpoint) unfinished work.
"""

from core.store.runs import Rows, Run, Singles, load_run, save_run

__all__ = ["Rows", "Run", "Singles", "load_run", "save_run"]
