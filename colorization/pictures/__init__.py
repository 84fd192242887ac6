"""Reads pictures of strangers: safely, and the same in training and wherever a model serves.

Each model is logged with a copy of this package, which imports nothing else of this project.
"""

from .directories import PictureError, PixelLimitError, list_pages, take_page
from .formats import NO_MEMORY, SUFFIXES, count_pages, is_deep, open_encoded
from .limits import DEFAULT_MAX_PIXELS, MAX_EXIF_BYTES, MAX_PIXELS, MAX_PIXELS_VARIABLE
from .picture import (
    DECODED_PIXELS,
    Picture,
    cut,
    find_tiles,
    open_picture,
    read_picture,
    read_pixel_limit,
    read_srgb,
    spread_tiles,
)
from .uncertainty import draw_heat_map, predict_uncertainty
