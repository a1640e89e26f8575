"""A causal language model, loaded and ready to have blocks gated or removed. Loads torch.

`load_model` with `LoadedModel` (load), after guard has looked at the folder, in the types and places of
devices and quantised. `gated` (gates), `without` and `remove_blocks` (surgery, which of a block's modules go
with a branch in places); `silence`, zeros in their stead; partial, which goes along with what lacks parts of
blocks; losses and their gradient (losses) with the head on a few tokens at a time (head);
`calibration_bytes` (memory); `by_itself`, without the rules of generation that came with it (generation).
"""
