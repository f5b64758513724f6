"""Images and phrases to masks, in Python and over folders of files."""
