"""Adversarial training with a radius for each sample."""
