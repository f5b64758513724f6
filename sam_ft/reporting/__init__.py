"""
Metric table, HTML report, pictures, gallery and model card.

Computation of metrics does not belong here.
"""
