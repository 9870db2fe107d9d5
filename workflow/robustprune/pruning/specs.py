"""What is kept of the pools."""
