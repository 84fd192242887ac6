"""What every painter here paints with: colors, noise and soft layers.

A plate is a float32 array (3, H, W), sRGB 0..1; a mask is (H, W), 0..1.
"""

import numpy as np
from PIL import Image, ImageColor


def rgb(color: str) -> np.ndarray:
    """Give a #rrggbb color as float32 (3,), 0..1."""
    return np.array(ImageColor.getrgb(color), np.float32) / 255


def ramp(values: np.ndarray, *colors: str) -> np.ndarray:
    """Color values 0..1 (H, W) by a scale of colors, dark to light; a plate."""
    stops = np.stack([rgb(color) for color in colors], axis=1)
    places, fine = np.linspace(0, 1, stops.shape[1]), np.linspace(0, 1, 256)
    table = np.stack([np.interp(fine, places, stop) for stop in stops]).astype(np.float32)
    return table[:, (np.clip(values, 0, 1) * 255).astype(np.uint8)]


def lay(plate: np.ndarray, color: np.ndarray | str, mask: np.ndarray) -> None:
    """Lay a color, or another plate, over a plate in place."""
    paint = rgb(color) if isinstance(color, str) else color
    paint = paint[:, None, None] if paint.ndim == 1 else paint
    plate += (paint - plate) * mask


def muted(plate: np.ndarray, kept: float) -> np.ndarray:
    """A plate with only the share `kept`, 0..1, of its color; luma stays."""
    gray = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), plate, 1)
    return gray + np.float32(kept) * (plate - gray)


def ease(values: np.ndarray) -> np.ndarray:
    """Clip to 0..1 and soften both ends (smoothstep)."""
    values = np.clip(values, 0, 1)
    return values * values * (3 - 2 * values)


def stretch(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (h, w) float32 smoothly to (height, width)."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise of about -1..1, with `cells` bumps down and across; float32 (height, width)."""
    cells = max(2, min(height, cells[0])), max(2, min(width, cells[1]))
    return stretch(rng.uniform(-1, 1, cells).astype(np.float32), height, width)


def clouds(
    rng: np.random.Generator, height: int, width: int, cells: int, octaves: int = 4
) -> np.ndarray:
    """Noise of several scales, each half as strong as the one before; about -1..1."""
    layers = [
        noise(rng, height, width, (cells * 2**octave, cells * 2**octave)) / 2**octave
        for octave in range(octaves)
    ]
    return sum(layers) / 1.4


def to_image(plate: np.ndarray) -> Image.Image:
    """A plate as an RGB picture."""
    pixels = (np.clip(plate, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def to_plate(image: Image.Image) -> np.ndarray:
    """An RGB picture as a plate."""
    return np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1)) / 255


def to_mask(image: Image.Image) -> np.ndarray:
    """An L picture as a mask."""
    return np.asarray(image, np.float32) / 255
