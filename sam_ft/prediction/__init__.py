"""Images and phrases, clicks or boxes to masks, in Python and over folders of files."""
