"""
SAM 3: Transformers' model with a training forward, its official weight names, configuration and tokenizer.

Code shared with SAM 2 belongs to the parent folder.
"""
