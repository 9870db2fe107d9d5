"""What files with pictures never reach: where others do, a few kilobytes could become any number of bytes of memory."""

LARGEST_BYTES = 2**26  # of an encoded image
LARGEST_RATIO = 200  # of unpacked to packed size: pictures are far below, a zip bomb is at deflate's limit of 1,032
HARMLESS_BYTES = 2**24  # unpacked, whatever the ratio
