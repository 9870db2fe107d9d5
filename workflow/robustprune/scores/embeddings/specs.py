"""Vectors that images are compared by."""
