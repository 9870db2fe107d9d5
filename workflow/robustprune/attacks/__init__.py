"""Attacks: norm geometry, and the loops over it."""
