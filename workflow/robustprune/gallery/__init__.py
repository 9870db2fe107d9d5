"""Galleries: how scores are spread, what manifests drop, and images of each part, for people to look at."""
