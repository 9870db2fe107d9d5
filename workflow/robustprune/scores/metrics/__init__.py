"""The metrics of training dynamics, one per file."""
