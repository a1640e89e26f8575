"""Blockscape: which transformer blocks to remove, read from the energy landscape.

Arrows point one way: models <- gates <- calibration <- runs <- couplings <-
spectrum <- states <- landscape; surgery, export and evaluation stand beside.
Nothing here imports streamlit. Modules that need torch say so by importing it
at the top; the rest (runs, store, couplings, ising, spectrum, states,
landscape, lens) stay light, so that the app's process never loads torch.
"""

__version__ = "0.1.0"
