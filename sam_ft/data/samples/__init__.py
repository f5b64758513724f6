"""
Samples: rows to what a model receives, by transforms, prompts and collation.

Reading files and splitting data sets do not belong here.
"""
