"""Which classes a hierarchy of many small ones is grouped into, and which images are whose."""
