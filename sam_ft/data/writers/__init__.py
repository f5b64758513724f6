"""
Writers: rows to COCO files with phrases, and to parquet for the Hub.

Predictions are written by `inference/`.
"""
