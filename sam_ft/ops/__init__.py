"""
Operations on boxes, masks and prompts for all other folders, with torch and numpy only.

Operations that depend on a model or a data set do not belong here.
"""
