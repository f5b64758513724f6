"""
SAM 3's and SAM 2's losses in pure torch: tensors in, tensors out.

Argument objects, process groups and trainers do not belong here.
"""
