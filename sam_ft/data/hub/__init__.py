"""Readers of Hub data sets and of folders in its formats (parquet, imagefolder, WebDataset)."""
