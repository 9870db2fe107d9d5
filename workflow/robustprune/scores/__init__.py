"""Scores of every image of a pool, into sharded stores."""
