"""From a calibration run to couplings H, and what is known of them.

couplings holds the estimators, one function each; learned the couplings that measurements correct; sources
puts both, and bare matrices, behind one face. mix weighs domains; uncertainty and rank_stability say how sure
energies and their order are; network reads H as a graph.
"""

from core.energy.couplings import ESTIMATORS, Estimator
from core.energy.learned import Posterior, Prior
from core.energy.sources import Source, list_sources, open_source

__all__ = ["ESTIMATORS", "Estimator", "Posterior", "Prior", "Source", "list_sources", "open_source"]
