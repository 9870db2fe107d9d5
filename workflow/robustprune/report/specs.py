"""A page of all that was asked for."""
