"""How far an image is from the decision boundary."""
