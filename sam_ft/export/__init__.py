"""
Export to other layouts: one module per format; each export is loaded back and compared with its source.

`FORMATS` in `formats.py` registers them.

Checkpoints of a run and uploads do not belong here.
"""
