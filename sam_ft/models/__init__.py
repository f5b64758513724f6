"""
Model families: registry, loading, adapters, freezing, quantisation, offloading, and the carried weights.

Each family has a folder; losses and data do not belong here.
"""
