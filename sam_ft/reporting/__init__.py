"""
Metric table, HTML report, page of the data check, pictures and model card.

Computation of metrics does not belong here.
"""
