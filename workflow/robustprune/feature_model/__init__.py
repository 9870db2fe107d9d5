"""Kaufmann's model of robust and fragile features: what pruning by loss does where every probability is known."""
