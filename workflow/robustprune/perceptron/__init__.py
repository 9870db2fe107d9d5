"""The teacher and student of PUMA's section 2: what pruning does where the true margin of each sample is known."""
