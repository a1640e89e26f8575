"""What lies on disk: runs, measurements, checkpoints of long work, and the folders they are in.

Everything is whole or absent: files are named by their digest or hold it, and take their place by one rename.
"""

from core.store.checkpoint import Checkpoint
from core.store.results import Key, Measurement, Results
from core.store.runs import Rows, Run, Singles, load_run, save_run

__all__ = ["Checkpoint", "Key", "Measurement", "Results", "Rows", "Run", "Singles", "load_run", "save_run"]
