"""Measured states side by side.

comparison reads what the store knows of a model, one row a state; agreement says how well energies order
losses; quadratic how well they say KL itself; other_tools reads results and lists of states from elsewhere.
"""

from core.compare.agreement import Agreement
from core.compare.comparison import Points, Row, Score, measured_rows, model_key
from core.compare.other_tools import Imported, Listed, read_results, read_states

__all__ = [
    "Agreement",
    "Imported",
    "Listed",
    "Points",
    "Row",
    "Score",
    "measured_rows",
    "model_key",
    "read_results",
    "read_states",
]
