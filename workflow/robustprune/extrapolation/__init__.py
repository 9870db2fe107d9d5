"""Scores of images that were not scored, from those of their nearest neighbours that were."""
