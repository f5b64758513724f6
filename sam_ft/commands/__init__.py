"""
One module per command, and the steps that commands share.

These build data, model and trainer from keys, claim folders, and report.
Algorithms do not belong here; they are in the folders below, which do not use keys.
"""
