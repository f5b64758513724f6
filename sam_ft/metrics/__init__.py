"""
Evaluation metrics: plain functions of predictions on the host, and `evaluate.Metric` classes on top.

A mean over (image, phrase) pairs is one function in `pair_metrics.py`; a `MetricSpec` of `reporting/metric_specs.py`
gives a metric its label, direction and place in reports.

Running a model and storing its predictions do not belong here.
"""
