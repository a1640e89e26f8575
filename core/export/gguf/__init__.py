"""GGUF files: blocks taken out of one, and those of a Llama without blocks or parts of them.

Out of a file of any quantisation: what it says of its blocks (plan), the file (blocks), which loads no torch,
and as an export (whole_blocks); the proof (proof), for which bytes are held against each other (same) and a
real llama.cpp is asked (llama_cpp). From a loaded Llama: deci, with the vocabulary (vocabulary), and its
proof (deci_proof).
"""
