"""Sequences -> gradient rows A, and the texts that a job draws them from. Loads torch.

`calibrate` with `run_key` (calibrate); `gradient_rows` of one batch, `measure_batch` and `at_once`
(gradient_rows); `read_sources`, `draw` and `available` (corpus); the model's own samples, `own_sequences`
(own_samples), and what it answers to prompts, `own_answers` (own_answers).
"""
