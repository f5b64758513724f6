"""
Layouts of other programs: one function per format, each compared with its source after loading it back.

Checkpoints of a run and uploads do not belong here.
"""
