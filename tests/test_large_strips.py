"""A TIFF in one large strip is read by Pillow if it can, else refused with the limit."""

import io

import numpy as np
import pytest
import tifffile

from colorization import pictures
from colorization.data import photograph
from colorization.pictures import tiff

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def one_strip(levels):
    file = io.BytesIO()
    tifffile.imwrite(file, levels, photometric="rgb", compression="zlib", rowsperstrip=40)
    return file.getvalue()


def test_a_strip_above_the_limit_is_left_to_pillow(monkeypatch):
    data = one_strip(PIXELS * np.uint16(257))
    monkeypatch.setattr(tiff, "MAX_STRIP_BYTES", PIXELS.size * 2)
    assert isinstance(pictures.open_picture(data), tiff.SampledTiff)
    monkeypatch.setattr(tiff, "MAX_STRIP_BYTES", PIXELS.size * 2 - 1)
    opened = pictures.open_picture(data)
    assert not isinstance(opened, tiff.SampledTiff)
    assert np.array_equal(pictures.read_srgb(opened), PIXELS)


def test_one_that_pillow_does_not_read_is_refused_with_the_limit(monkeypatch):
    monkeypatch.setattr(tiff, "MAX_STRIP_BYTES", 1000)
    data = one_strip(PIXELS.astype(np.float32))
    reason = "has a strip or a row of tiles of 24000 bytes, unpacked, above the limit of 1000 bytes"
    with pytest.raises(pictures.PictureError, match=f"^{reason}$"):
        pictures.open_picture(data)
    with pytest.raises(photograph.LeftOut, match=f"^too large: it {reason}$"):
        photograph.decode(data)
