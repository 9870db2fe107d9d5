"""Grouping of a hierarchy of many small classes into few large ones, and the list of their images."""
