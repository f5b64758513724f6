"""
Model families: registry, loading, adapters, freezing, quantisation, offloading, and the weights in this package.

Each family has a subfolder. Losses and data do not belong here.
"""
