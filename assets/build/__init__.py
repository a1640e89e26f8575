"""Builds the bundled demo: corpus, model, calibration (`make demo`)."""
