"""Data sets of the Hub, and folders in its forms (parquet, imagefolder, WebDataset): any schema to rows."""
