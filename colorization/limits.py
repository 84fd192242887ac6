"""How much a file, an archive or a download may take: every limit of this project, stated once.

The pyfunc is one self-contained file and states its own; a test compares those that both have.
"""

MIB = 2**20

# Files, archives and the download of pictures.
# A picture of 64 megapixels and 16 bits, not compressed, with transparency: 512 million bytes.
MAX_PICTURE_BYTES = 512 * MIB
MAX_DEPTH = 100  # folders in each other; Python calls itself at most 1,000 times deep
