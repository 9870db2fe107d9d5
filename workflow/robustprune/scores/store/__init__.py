"""Stores: columns of numbers, one row per sample of a pool, in a Zarr v3 group.

A column is an array of dimension ``sample``, or of ``epoch`` and ``sample``; row i is the sample with id i. A file (a
shard in Zarr's terms) holds ``SHARD_ROWS`` samples of one column and epoch and is written atomically. It is cut into
chunks of ``CHUNK_ROWS``, the unit of reading, each with a CRC-32C. The bytes are those that Zarr writes, so any Zarr
library reads them. Because Zarr reads fill values where a file is missing, the group's attributes list every file with
its size and its seal: the SHA-256 of its chunks' checksums. (A CRC-32C of the whole file would be useless: it is the
same for all files whose parts end in their own CRC-32C.)

A store may come from a stranger, so its attributes are checked before anything else is read: names, dtypes and sizes
must fit a store of that many rows. Files are read only inside the folder, never through a link, and a chunk is unpacked
only if its frame states the expected size.
"""

from robustprune.scores.store.reader import Store, open_store, read_contents
from robustprune.scores.store.writer import StoreWriter, recut, write_store

__all__ = ["Store", "StoreWriter", "open_store", "read_contents", "recut", "write_store"]
