"""One file per layout; each ends in the row of `example.py`."""
