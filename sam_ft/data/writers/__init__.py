"""
Rows to files: COCO with phrases, and parquet for the Hub.

Predictions are written by `inference/`.
"""
