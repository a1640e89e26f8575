"""A pruned checkpoint: written whole, verified in a fresh process, or not at all. Loads torch, but for
the words (form_names, card).

`prune` with its `Export`, `is_export_of`, `zip_export` (write); `verify`, and the process that it runs in
(verify). Where attention or FFN goes on its own there are several FORMS (forms): the portable one, tried
without this project (check_portable); zeros; GGUF (deci, gguf_vocabulary, deci_proof); a config of
nemotron-nas (nas).
"""
