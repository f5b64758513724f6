"""Readers of annotation layouts, one module for each; all return rows in the schema of `row_schema.py`."""
