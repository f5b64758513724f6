"""
One module per command, and what several commands share: from keys to data, model and trainer, output folders, reports and cards.

Algorithms do not belong here; they are in the folders below, which know no keys.
"""
