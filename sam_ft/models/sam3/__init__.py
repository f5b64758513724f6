"""
SAM 3: Transformers' model with a training forward, its official weight names, configuration and tokenizer.

What SAM 2 needs too belongs to the folder above.
"""
