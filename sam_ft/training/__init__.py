"""
Trainer subclasses with their evaluation loop, callbacks, checkpoints, feature cache and Hub upload.

Losses, metrics and the scoring of stored predictions do not belong here.
"""
