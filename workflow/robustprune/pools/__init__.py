"""What images there are: the pool format, ingest (one file per source), generation."""
