"""The blocks of any causal language model: found by watching it run, each described.

`find_structure` (structure), `describe_blocks` (description); what is special of a model type is data
(architectures). Loads torch, so nothing is imported here.
"""
