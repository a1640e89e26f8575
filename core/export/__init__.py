"""A pruned checkpoint: written whole, verified in a fresh process, or not at all. Loads torch.

`prune` with its `Export`, `is_export_of`, `zip_export` (write); `verify`, and the process that it runs in
(verify).
"""
