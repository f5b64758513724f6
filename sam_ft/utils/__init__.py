"""
Files and processes: atomic writes, strict JSON and YAML, locks, output folders, secrets, signals, error lines.

Nothing here imports another folder of the package, torch or Transformers.
"""
