"""One module for each place images come from, each with ``read(spec) -> Images``."""
