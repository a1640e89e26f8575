"""What a model is worth with any of its blocks removed. Loads torch.

One model, its loss, tasks and speed: `evaluate` (evaluation), told and not stored; a token at a context,
`milliseconds_a_token` and `time_by_kind` (token_time). The loss of many states on kept prefixes, stored in
core.store.results: `open_forwards` with `Forwards` (state_losses, on replay); of every state of M,
`prefix_walk` (prefix_walk); lm-evaluation-harness, `measure` (harness, on harness_tasks and harness_model);
short prompts (behaviour).
"""
