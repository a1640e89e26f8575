"""A pruned checkpoint: written whole, verified in a fresh process, or not at all. Loads torch.

`prune` and `write_healed` (write) make a folder (making, workshop) in a way of several: by the loaded model
(in_memory), in one of the forms that writers has; by way of its files (by_shard, proved by shard_proof); out
of a GGUF file (gguf). `verify` and the process that it runs in (verify); the portable form is tried without
this project (check_portable); a config of nemotron-nas (nas).
"""
