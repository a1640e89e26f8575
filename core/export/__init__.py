"""A pruned checkpoint: written whole, verified in a fresh process, or not at all. Loads torch, but for
the words (form_names, card) and the record.

`prune` and `write_healed` (write) make a folder (making) in a way of several: by the loaded model
(in_memory), in one of FORMS (forms). `Export`, `is_export_of`, `zip_export` (record); `verify`, and the
process that it runs in (verify). Where attention or FFN goes on its own: the portable form, tried without
this project (check_portable); zeros; GGUF (deci, gguf_vocabulary, deci_proof); a config of nemotron-nas
(nas).
"""
