"""A pruned checkpoint: written whole, verified in a fresh process, or not at all. Loads torch, but for
the words (form_names, card) and the record.

`prune` and `write_healed` (write) make a folder (making) in a way of several: by the loaded model
(in_memory), in one of FORMS (forms); by way of its files (by_shard, shard_proof); out of a GGUF file
(of_gguf). `Export`, `is_export_of`, `zip_export` (record); `verify`, and the
process that it runs in (verify). Where attention or FFN goes on its own: the portable form, tried without
this project (check_portable); zeros; GGUF (deci, gguf_vocabulary, deci_proof); a config of nemotron-nas
(nas).

Blocks out of GGUF: what a file says of them (gguf_plan), the file (gguf_blocks), which loads no torch, and
the proof (gguf_proof), for which bytes are held against each other (gguf_same) and a real llama.cpp is asked
(llama_cpp). What others do with all that: `recipe` for mergekit, `commands`.
"""
