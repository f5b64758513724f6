"""
Synthetic scenes: drawing, their phrases, and their files.

Real data do not belong here.
"""
