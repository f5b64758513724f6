"""
SAM 3's and SAM 2's losses in pure torch: tensors in, tensors out.

A term is a method of a criterion, and its weight a field of `options/loss.py`, which is a key of the commands too.

Argument objects, process groups and trainers do not belong here.
"""
