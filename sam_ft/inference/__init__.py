"""
Predictors, tiling, non-maximum suppression, prediction over folders with its output formats, and the demo page.

Evaluation against ground truth does not belong here.
"""
