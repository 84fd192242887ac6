"""What benchmarks color and prepare where no photograph is given."""

import io

import numpy as np
from PIL import Image


def paint_jpeg(side: int = 320, seed: int = 0) -> bytes:
    """A picture with the detail of a photograph, as a JPEG: about 30 KB at 320x320."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (n, n, 3), np.uint8)).resize((side, side)),
            float,
        )
        for n in (4, 16, 64, side)
    ]
    mixed = np.average(layers, axis=0, weights=(8, 4, 2, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(mixed).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
