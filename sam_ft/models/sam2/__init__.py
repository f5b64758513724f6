"""
SAM 2: Transformers' model with a training forward over rounds of prompts, and its configuration.

What SAM 3 needs too belongs to the folder above.
"""
