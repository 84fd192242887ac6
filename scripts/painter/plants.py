"""Paints what grows in a garden over a plate in place: leaves, blossom, berries, grass."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from scripts.painter import brush

BLADES = ("#152a0e", "#2c5217", "#4b7c24", "#6fa034", "#97bf4e", "#c9dc86")
LEAF = ("#1f3d14", "#3f6e22", "#6a9a34", "#9cc052")
FALL = ("#6b2e10", "#a8521a", "#d58a2a", "#ecc05a")


def _leaf(
    draw: ImageDraw.ImageDraw, x: float, y: float, length: float, angle: float, color, vein
) -> None:
    """A pointed leaf with a pale middle vein, its stem at (x, y)."""
    t = np.linspace(0, 1, 9)
    half = 0.3 * length * np.sin(np.pi * t**0.8) ** 0.9
    along, across = np.concatenate([t, t[::-1]]) * length, np.concatenate([half, -half[::-1]])
    cos, sin = np.cos(angle), np.sin(angle)
    points = list(zip(x + along * cos - across * sin, y + along * sin + across * cos, strict=True))
    draw.polygon(points, fill=tuple(color))
    draw.polygon(points[:9], fill=tuple(int(value * 0.82) for value in color))
    draw.line(
        [(x, y), (x + length * cos, y + length * sin)], tuple(vein), max(1, round(length / 26))
    )


def leaves(
    canvas, rng: np.random.Generator, places, length: float, palette: tuple[str, ...]
) -> None:
    """Leaves at places (x, y, angle) over a plate in place."""
    image = brush.to_image(canvas)
    draw = ImageDraw.Draw(image)
    for x, y, angle in places:
        color = brush.ramp(np.array([[rng.uniform(0.15, 0.95)]], np.float32), *palette)[:, 0, 0]
        size = length * rng.uniform(0.7, 1.2)
        vein = (np.minimum(color * 1.3 + 0.06, 1) * 255).astype(int)
        _leaf(draw, x, y, size, angle, (color * 255).astype(int), vein)
    canvas[:] = brush.to_plate(image)


def flowers(canvas: np.ndarray, rng: np.random.Generator, places, size: float) -> None:
    """Apple blossom, five petals each, at most places."""
    image = brush.to_image(canvas)
    draw = ImageDraw.Draw(image)
    for x, y, angle in rng.permutation(places)[: max(3, len(places) // 2)]:
        x, y = x + rng.normal(0, 0.6 * size), y + rng.normal(0, 0.6 * size)
        reach, pink = size * rng.uniform(0.7, 1.2), rng.integers(0, 60)
        for turn in angle + np.arange(5) * 1.2566:
            px, py, radius = (
                x + 0.75 * reach * np.cos(turn),
                y + 0.75 * reach * np.sin(turn),
                0.62 * reach,
            )
            box = (px - radius, py - radius, px + radius, py + radius)
            draw.ellipse(box, (252, 240 - pink, 243 - pink // 2), (226, 178, 194))
        draw.ellipse((x - reach / 4, y - reach / 4, x + reach / 4, y + reach / 4), (226, 186, 74))
    canvas[:] = brush.to_plate(image)


def berries(canvas: np.ndarray, rng: np.random.Generator, places, size: float) -> None:
    """Clusters of shining red berries at some places."""
    image = brush.to_image(canvas)
    draw = ImageDraw.Draw(image)
    for x, y, _ in places:
        for _ in range(rng.integers(0, 4)):
            px, py = x + rng.normal(0, 1.6 * size), y + rng.normal(0, 1.6 * size)
            draw.ellipse((px - size, py - size, px + size, py + size), (178, 26, 30), (104, 14, 20))
            spark = px - 0.35 * size, py - 0.4 * size, 0.28 * size
            draw.ellipse(
                (
                    spark[0] - spark[2],
                    spark[1] - spark[2],
                    spark[0] + spark[2],
                    spark[1] + spark[2],
                ),
                (250, 214, 206),
            )
    canvas[:] = brush.to_plate(image)


def daisies(canvas: np.ndarray, rng: np.random.Generator, horizon: float, side: int) -> None:
    """Daisies in a lawn that begins at the row `horizon`."""
    image = brush.to_image(canvas)
    draw = ImageDraw.Draw(image)
    for depth in np.sort(rng.uniform(0.1, 1, rng.integers(4, 12))):
        x, y, size = (
            rng.uniform(0, side),
            horizon + depth * (side - horizon),
            side * 0.016 * (0.5 + depth),
        )
        for turn in np.arange(0, 6.2, 0.52):
            px, py = x + np.cos(turn) * size, y + 0.6 * np.sin(turn) * size
            draw.ellipse(
                (px - size * 0.36, py - size * 0.3, px + size * 0.36, py + size * 0.3),
                (246, 246, 240),
            )
        draw.ellipse(
            (x - size * 0.5, y - size * 0.4, x + size * 0.5, y + size * 0.35), (240, 196, 48)
        )
    canvas[:] = brush.to_plate(image)


def blades(
    canvas: np.ndarray, rng: np.random.Generator, top: float, bottom: float, count: int
) -> None:
    """Blades of grass that root between two heights, far ones first, over a plate in place."""
    side = canvas.shape[1]
    image = brush.to_image(canvas)
    draw = ImageDraw.Draw(image)
    depths = np.sort(rng.beta(1.0, 1.35, count))
    colors = (
        brush.ramp(rng.beta(2, 2, (1, count)).astype(np.float32), *BLADES)[:, 0].T * 255
    ).astype(int)
    for depth, x, lean, length, color in zip(
        depths, rng.uniform(0, side, count), rng.normal(0, 0.35, count),
        rng.uniform(0.6, 1.3, count), colors,
        strict=True,
    ):  # fmt: skip
        y = top + (bottom - top) * depth
        tall = side * (0.008 + 0.075 * depth) * length
        wide = 0.4 + side * 0.006 * depth
        tip = (x + lean * tall, y - tall)
        draw.polygon(
            [(x - wide, y), (x + lean * tall * 0.3, y - tall * 0.6), tip, (x + wide, y)],
            fill=tuple(color),
        )
    canvas[:] = brush.to_plate(image)


def near_leaves(canvas: np.ndarray, rng: np.random.Generator, season: str) -> None:
    """Big leaves right before the lens, far out of focus, in one upper corner."""
    side = canvas.shape[1]
    small = side // 4
    color, cover = Image.new("RGB", (small, small)), Image.new("L", (small, small), 0)
    draw, stencil = ImageDraw.Draw(color), ImageDraw.Draw(cover)
    palette = FALL if season == "autumn" else LEAF
    corner = rng.choice([0.0, 1.0])
    color.paste(tuple(int(255 * part) for part in brush.rgb(palette[1])), (0, 0, small, small))
    for _ in range(rng.integers(4, 9)):
        x, y = (corner + rng.normal(0, 0.16)) * small, rng.uniform(-0.1, 0.3) * small
        tone = brush.ramp(np.array([[rng.uniform(0.1, 0.8)]], np.float32), *palette)[:, 0, 0] * 255
        args = x, y, small * rng.uniform(0.2, 0.34), rng.uniform(0, 6.3)
        _leaf(draw, *args, tone.astype(int), tone.astype(int))
        _leaf(stencil, *args, (255,), (255,))
    soften = ImageFilter.GaussianBlur(small * 0.02)
    cover = cover.filter(soften).resize((side, side), Image.Resampling.BICUBIC)
    color = color.filter(soften).resize((side, side), Image.Resampling.BICUBIC)
    brush.lay(canvas, brush.to_plate(color), 0.92 * brush.to_mask(cover))
