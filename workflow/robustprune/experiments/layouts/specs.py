"""Where images lie in a plane."""
