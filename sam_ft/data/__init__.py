"""
From files and Hub data sets to rows, and from rows to batches.

Nothing here imports models, losses or trainers.
"""
