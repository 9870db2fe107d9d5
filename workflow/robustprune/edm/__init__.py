"""Generating images: EDM's network, preconditioning, training and Heun sampler."""
