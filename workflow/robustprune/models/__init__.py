"""Architectures, one file each, and how trained ones are saved and loaded."""
