"""The listed states, and what can be said of them.

landscape puts H, a spectrum and its minima together; candidates says which to measure, and why each was
proposed; locate says where any state stands; wording puts energies into words.
"""

from core.landscape.candidates import Candidate, Candidates
from core.landscape.landscape import Landscape
from core.landscape.locate import Place, place

__all__ = ["Candidate", "Candidates", "Landscape", "Place", "place"]
