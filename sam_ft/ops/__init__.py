"""Arithmetic on boxes and masks that every room may use; knows torch and numpy only."""
