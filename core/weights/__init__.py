"""Where a model's weights lie and what they are, before any is read: safetensors, GGUF, adapters.

Loads torch.

`find` names the files of a model; `files` holds what all formats answer; `gguf_files` and `adapter` are the
formats beside safetensors; `guard` refuses what could run code, `quantised` what cannot be read. Without
torch: `gguf_header`, `gguf_copy` and `gguf_patterns`, what a GGUF file says and how another is made of it.
"""
