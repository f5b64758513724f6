"""
Validation of a readable data set: rows, images, and the findings of `check_data.py`.

Errors of reading belong to `data/readers/`.
"""
