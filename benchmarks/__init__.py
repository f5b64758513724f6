"""Benchmarks: one question per script; each prints a ratio."""
