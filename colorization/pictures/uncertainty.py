"""How unsure a network is of its colors, and a heat map of that."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

OUTPUT = "uncertainty"  # the second output of a network that knows how likely its colors are
UNSURE_LEVELS = 16.0  # the colors of a picture and of its mirror differ by as much or more: 1

# Magma of matplotlib (van der Walt and Smith): perceptually uniform, in nine of its 256 colors.
MAGMA = "000004 1d1147 51127c 832681 b73779 e75263 fc8961 fec488 fcfdbf"  # from 0 to 1
LEAST_SIDE = 128  # of a heat map with a color bar, in pixels
WORDS = ("0 sure", "unsure 1")


def predict_uncertainty(session: Any, grays: np.ndarray) -> np.ndarray:
    """Return how unsure a network is of each color, 0 to 1.

    That is its output `uncertainty`, the entropy of its distribution over colors, of which 1 is
    the highest possible one. A network without this output shows by its mirror image: it is the
    largest difference of R, G and B between the colors of a picture and of its mirror, over 16
    levels, and 1 from there on.

    The session is the network's in ONNX Runtime. Grays are float32 (N, S, S, C), 0..255, and the
    answer is float32 (N, S, S, 1).
    """
    name, outputs = session.get_inputs()[0].name, [each.name for each in session.get_outputs()]
    if OUTPUT in outputs:
        return session.run([OUTPUT], {name: grays})[0]
    mirror = np.ascontiguousarray(grays[:, :, ::-1])
    straight, mirrored = (session.run(outputs[:1], {name: each})[0] for each in (grays, mirror))
    difference = np.abs(straight - mirrored[:, :, ::-1]).max(axis=-1, keepdims=True)
    return np.minimum(difference / UNSURE_LEVELS, 1)


def draw_heat_map(uncertainty: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Draw a heat map, RGB, with a color bar in its lower left corner where there is space for it.

    The uncertainty is float32 (H, W, 1), 0..1, and dark where it is low; the size is in pixels.
    """
    levels = Image.fromarray(np.round(uncertainty[..., 0] * 255).astype(np.uint8))
    heat = _paint(levels.resize(size, Image.Resampling.BILINEAR))
    if min(size) >= LEAST_SIDE:
        _draw_bar(heat)
    return heat


def _paint(levels: Image.Image) -> Image.Image:
    colors = np.array([list(bytes.fromhex(each)) for each in MAGMA.split()])
    places = np.linspace(0, 255, len(colors))
    palette = np.stack([np.interp(np.arange(256), places, plane) for plane in colors.T], axis=-1)
    levels.putpalette(np.round(palette).astype(np.uint8).tobytes())
    return levels.convert("RGB")


def _draw_bar(heat: Image.Image) -> None:
    text = max(10, min(heat.size) // 20)  # pixels
    font, draw = ImageFont.load_default(text), ImageDraw.Draw(heat)
    left, right = (round(font.getlength(each)) for each in WORDS)
    gap, bar = text // 3, min(12 * text, heat.width - left - right - 5 * (text // 3))
    top, bottom = heat.height - text - 3 * gap, heat.height - gap
    draw.rectangle((gap, top, 4 * gap + left + bar + right, bottom), "black", "white")
    middle = (top + bottom) / 2
    draw.text((2 * gap, middle), WORDS[0], "white", font, "lm")
    draw.text((4 * gap + left + bar - gap // 2, middle), WORDS[1], "white", font, "lm")
    ramp = Image.linear_gradient("L").rotate(90).resize((bar, text))
    heat.paste(_paint(ramp), (3 * gap + left - gap // 2, round(middle - text / 2)))
