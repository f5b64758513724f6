"""
SAM 2: Transformers' model with a training forward over rounds of prompts, and its configuration.

Code shared with SAM 3 belongs to the parent folder.
"""
