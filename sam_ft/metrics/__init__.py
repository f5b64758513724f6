"""
Evaluation metrics: plain functions of predictions on the host, and `evaluate.Metric` classes on top.

Running a model and storing its predictions do not belong here.
"""
