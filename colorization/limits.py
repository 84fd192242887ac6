"""How much a file, an archive or a download may take: every limit of this project, stated once.

The pyfunc is one self-contained file and states its own; a test compares those that both have.
"""

MIB = 2**20

# Pictures. The pyfunc states those after the first with the same names and values.
MAX_PIXELS = 89_478_485  # from here on Pillow warns of a decompression bomb
MAX_SIDE = 65_535  # pixels; a row of millions takes gigabytes wherever whole rows are worked on
MAX_SCANS = 100  # of a JPEG; honest ones have about ten, and each is a pass over all pixels
MAX_EXIF_BYTES = 65_533  # one segment of a JPEG; for the other formats alike
MAX_EXIF_BLOCKS = 4  # of a file; what comes behind them is not looked at
MAX_TAGS_SLACK = MIB  # bytes that TIFF tags may add up to beyond the file that holds them
MAX_TAG_NUMBERS = 1 << 20  # of one tag; 64 megapixels in tiles of 16 x 16, three planes apart
