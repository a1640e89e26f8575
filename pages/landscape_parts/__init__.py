"""The sections of the Landscape page."""
