"""Which test images a model gets right, clean and under attack."""
