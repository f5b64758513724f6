"""
Plain dataclasses of options, which rooms take and from which the keys of the commands are made.

Code that imports torch, Transformers or another folder than `utils` does not belong here.
"""
