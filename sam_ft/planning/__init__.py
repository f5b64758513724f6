"""
Prediction of memory and time, and the ladder of options that reduce memory.

Measured runs belong to the command that starts them.
"""
