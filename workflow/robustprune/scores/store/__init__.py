"""Stores: columns of numbers, a row a sample of a pool, in a Zarr v3 group.

A column is an array of dimension ``sample``, or of ``epoch`` and ``sample``; row i is the sample with id i. A file (a
shard, in Zarr's words) holds ``SHARD_ROWS`` samples of one column and epoch and is written whole, so a kill leaves
none torn. A shard is cut into chunks of ``CHUNK_ROWS``, the unit of reading, each with a CRC-32C. The bytes are
those that Zarr writes, and whatever reads Zarr reads them. Zarr has fill values where a file is missing, so the group's
attributes list every file with its size and its seal: the SHA-256 of its chunks' checksums, which stand for their
content. (A CRC-32C of the whole file would say nothing: it is the same for all files whose parts end in their own.)

A store may come from a stranger. What its attributes say is checked before anything is read by them: names, dtypes and
sizes must be those of a store of so many rows, and a file is read only below the folder, never through a link. A chunk
is unpacked only where its frame states the size that the chunk should have.
"""

from robustprune.scores.store.reading import Store, open_store, read_contents
from robustprune.scores.store.writing import StoreWriter, recut, write_store

__all__ = ["Store", "StoreWriter", "open_store", "read_contents", "recut", "write_store"]
