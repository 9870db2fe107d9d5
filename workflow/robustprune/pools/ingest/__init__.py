"""Sources of images: one module per source, each with ``open_stream(spec) -> ImageStream``."""
