"""
Phrases: names of classes, attributes, synonyms, negative phrases and their sampling.

Reading files does not belong here.
"""
