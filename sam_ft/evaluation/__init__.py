"""
Stored predictions, their scoring, and COCO results files of other programs.

Metrics as functions of predictions are in `metrics/`; running a model is the task of `training/`.
"""
