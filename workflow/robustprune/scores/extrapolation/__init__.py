"""Extrapolation."""
