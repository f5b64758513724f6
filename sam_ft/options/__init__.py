"""
Dataclasses of options for the functions of other folders; they also declare the keys of the commands.

Code that imports torch, Transformers or another folder than `utils` does not belong here.
"""
