"""
Samples: rows to model inputs, by transforms, prompts and collation.

Reading files and splitting data sets do not belong here.
"""
