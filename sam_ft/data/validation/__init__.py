"""
Checks of a data set that can be read: rows, images, and the findings of `check_data.py`.

Errors of reading belong to `data/readers/`.
"""
