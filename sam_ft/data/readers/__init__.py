"""
Readers of annotation layouts, one module for each; all return the records of `records.py`, which `rows.py` converts.

A reader is a module with `find(folder)`, which returns a function `(ReadOptions) -> Split` for each split, or `None`
for another layout; `FORM`, its files in messages; and `KEYS`, the options that only some layouts use, if it uses any.
If one file describes many images, `find_file(file)` returns the same for that file alone.
`LAYOUTS` in `options/data.py` registers it.
"""
