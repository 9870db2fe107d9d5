"""One module for each place images come from, each with ``open_stream(spec) -> ImageStream``."""
