"""Win back what a removal costs: distillation from the original, or replacing what was removed. Loads torch,
but for settings, parts and needs.

`heal` (healing, from the names of a model and blocks to the healed model; `healed`, of models and texts that
are there); `Settings`, `METHODS` (settings, what is asked); `replace_blocks` (replacement: a linear map
folded into the block before, or weights merged into it; no training); `made_ready` (student, which weights a
method trains); `train` (training, on transformers' Trainer, with the loss of losses against a `Teacher` of
teacher); `train_in_rounds` (rounds: a part of the blocks goes, is healed, the next goes; `in_parts` of parts
says which go first); `needs` (needs, memory and disk before anything is trained).
"""
