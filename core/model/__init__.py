"""A causal language model, loaded and ready to have blocks gated or removed. Loads torch.

`load_model` with `LoadedModel` (load), after guard has looked at the folder, in the types and places of
devices and quantised. `gated` (gates), `without` and `remove_blocks` (surgery); losses of logits (losses);
`calibration_bytes` (memory).
"""
