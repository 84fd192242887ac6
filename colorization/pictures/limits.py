"""How much a picture may take: every limit of its file, stated once."""

MAX_PIXELS = 89_478_485  # to learn from; from here on Pillow warns of a decompression bomb
DEFAULT_MAX_PIXELS = 64_000_000  # to color, unless the environment variable says otherwise
MAX_PIXELS_VARIABLE = "COLORIZER_MAX_PIXELS"
MAX_SIDE = 65_535  # pixels; a row of millions takes gigabytes wherever whole rows are worked on
MAX_SCANS = 100  # of a JPEG; honest ones have about ten, and each is a pass over all pixels
MAX_EXIF_BYTES = 65_533  # one segment of a JPEG; for the other formats alike
MAX_EXIF_BLOCKS = 4  # of a file; what comes behind them is not looked at
MAX_TAGS_SLACK = 1 << 20  # bytes that TIFF tags may add up to beyond the file that holds them
MAX_TAG_NUMBERS = 1 << 20  # of one tag; 64 megapixels in tiles of 16 x 16, three planes apart
# Unpacked, of a strip or a row of tiles of a TIFF that Pillow does not read by itself.
MAX_STRIP_BYTES = 178_956_970  # as many pixels are a bomb to it
MAX_TEXT_BYTES = 1 << 20  # of one text of a PNG, unpacked; Pillow reads no longer ones
MAX_PROFILE_BYTES = 1 << 24  # of a PNG's color profile, or of all its texts
MAX_TILES = 1 << 14  # of a JPEG 2000; 64 megapixels in tiles of 64 x 64
MAX_CODE_BLOCKS = 1 << 19  # of a JPEG 2000; 64 megapixels of color in blocks of 32 x 32
