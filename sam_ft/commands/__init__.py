"""
One module per command, and the steps that commands share: build data, model and trainer from keys, claim folders,
report.

Algorithms do not belong here; they are in the folders below, which do not use keys.
"""
