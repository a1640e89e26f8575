"""What a model is worth with any of its blocks removed. Loads torch.

Losses and tasks, `evaluate` and `sequence_losses` (evaluation); many states on kept prefixes, `open_forwards`
with `Forwards` (forwards, on replay), and every state of M, `prefix_walk` (prefix_walk);
lm-evaluation-harness, `measure` (harness, on harness_tasks and harness_model); short prompts (behaviour).
"""
