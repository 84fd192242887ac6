"""Paints the garden behind a bird, out of focus as behind a long lens.

Each painter takes a random generator and gives a small plate (3, N, N); it is enlarged to the
picture. Color follows from what a gray picture shows as well: leaves are blotchy and dark, skies
smooth and bright, fences have boards.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from scripts.painter import brush

SIDE = 160
LEAVES = ("#0e1a10", "#20381a", "#3d6427", "#668f36", "#9dbb55", "#d6dd94", "#f4f2cf")
AUTUMN = ("#4a2a14", "#94521c", "#cc8029", "#e2a23c", "#eec263", "#f7de9c", "#fdf4da")
PETALS = ("#8d5468", "#c98297", "#e6afbf", "#f4d3da", "#fdf3f3")
GRASS = ("#16240f", "#345a1c", "#55842a", "#7aa83c", "#a3c65a", "#d2de8e")
CLEAR = ("#3f78bd", "#5e96d4", "#86b4e4", "#b3d2ef", "#dceaf6", "#fbfcfc")
OVERCAST = ("#9aa3ab", "#b6bdc3", "#ccd1d4", "#e0e3e4", "#f2f3f2")
DUSK = ("#2f2b4a", "#5c4a72", "#9a6684", "#d78a7c", "#f2b677", "#fbe0a4")
WINTER = ("#2c3a54", "#4f678c", "#7c97bb", "#a9c0da", "#d2e0ef", "#f4f8fc")
WOOD = ("#2a1a10", "#543820", "#7b5532", "#a0764a", "#c39b6c", "#e3c69a")
BRICK = ("#3c1a14", "#74301f", "#9c4630", "#b6603f", "#cf8a68", "#e6c4a8")


def _blobs(
    rng: np.random.Generator, count: int, sizes: tuple[float, float], blur: float, thin: float
) -> np.ndarray:
    """Leaves out of focus, of every brightness 0..1, (N, N); and where any lies."""
    image = Image.new("L", (SIDE, SIDE), 0)
    cover = Image.new("L", (SIDE, SIDE), 0)
    draw, stencil = ImageDraw.Draw(image), ImageDraw.Draw(cover)
    turns = np.linspace(0, 2 * np.pi, 12)
    for _ in range(count):
        x, y = rng.uniform(-0.1, 1.1, 2) * SIDE
        length, angle = rng.uniform(*sizes) * SIDE, rng.uniform(0, np.pi)
        along, across = length * np.cos(turns), thin * length * np.sin(turns)
        points = list(
            zip(
                x + along * np.cos(angle) - across * np.sin(angle),
                y + along * np.sin(angle) + across * np.cos(angle),
                strict=True,
            )
        )  # fmt: skip
        draw.polygon(points, fill=int(255 * np.clip(rng.beta(1.6, 2.2), 0, 1)))
        stencil.polygon(points, fill=255)
    soften = ImageFilter.GaussianBlur(blur * SIDE)
    mask = brush.to_mask(cover.filter(soften))
    return brush.to_mask(image.filter(soften)) / np.maximum(mask, 0.05), mask


def _bokeh(
    rng: np.random.Generator, plate: np.ndarray, count: int, color: np.ndarray, size: float
) -> None:
    """Discs of light, as bright spots make behind a long lens, over a plate in place."""
    image = Image.new("L", (SIDE * 2, SIDE * 2), 0)
    for _ in range(count):
        x, y = rng.uniform(0, 2 * SIDE, 2)
        radius = 2 * SIDE * size * rng.uniform(0.5, 1)
        layer = ImageDraw.Draw(image)
        value = int(rng.uniform(40, 130))
        layer.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=value,
            outline=min(255, value + 40),
        )
    image = image.filter(ImageFilter.GaussianBlur(1.6)).resize((SIDE, SIDE))
    brush.lay(plate, color, brush.to_mask(image))


def _leafy(rng: np.random.Generator, palette: tuple[str, ...], light: float) -> np.ndarray:
    """Leaves in three depths over a dim hedge."""
    far = 0.32 + 0.2 * brush.clouds(rng, SIDE, SIDE, 3, 2)
    value = far + light * np.linspace(0.14, -0.1, SIDE, dtype=np.float32)[:, None]
    for count, sizes, blur, weight in (
        (40, (0.06, 0.14), 0.03, 0.6),
        (46, (0.04, 0.09), 0.012, 0.75),
    ):
        leaves, mask = _blobs(rng, count, sizes, blur, 0.45)
        value = value + (0.08 + 0.75 * leaves - value) * mask * weight
    return brush.ramp(value + 0.12 * light, *palette)


def foliage(rng: np.random.Generator) -> np.ndarray:
    """A green hedge in leaf, with discs of light."""
    plate = _leafy(rng, LEAVES, rng.uniform(-0.4, 1.4))
    _bokeh(rng, plate, rng.integers(4, 16), brush.rgb("#e6ecae"), 0.06)
    return plate


def autumn(rng: np.random.Generator) -> np.ndarray:
    """Orange leaves between tall dark trunks."""
    plate = _leafy(rng, AUTUMN, rng.uniform(0.6, 1.6))
    _trunks(rng, plate, "#2b1d16", rng.integers(2, 5))
    _bokeh(rng, plate, rng.integers(4, 10), brush.rgb("#ffe2a0"), 0.06)
    return plate


def _trunks(rng: np.random.Generator, plate: np.ndarray, color: str, count: int) -> None:
    image = Image.new("L", (SIDE, SIDE), 0)
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        x, width, lean = (
            rng.uniform(0, SIDE),
            rng.uniform(0.02, 0.06) * SIDE,
            rng.uniform(-0.1, 0.1) * SIDE,
        )
        draw.polygon(
            [(x, 0), (x + width, 0), (x + width * 1.3 + lean, SIDE), (x + lean, SIDE)], fill=220
        )
        draw.line((x, rng.uniform(0.2, 0.7) * SIDE, x + rng.uniform(-0.4, 0.4) * SIDE, 0), 180, 3)
    brush.lay(plate, color, brush.to_mask(image.filter(ImageFilter.GaussianBlur(2.6))))


def clear(rng: np.random.Generator) -> np.ndarray:
    """Blue sky, paler toward the ground, with or without clouds."""
    height = np.linspace(0.12, 0.5, SIDE, dtype=np.float32)[:, None]
    cloud = brush.ease(brush.clouds(rng, SIDE, SIDE, 2, 4) * 1.3 + rng.uniform(-0.6, 0.25))
    return brush.ramp(
        height * rng.uniform(0.7, 1.1) + 0.5 * cloud + np.zeros((SIDE, SIDE), np.float32), *CLEAR
    )


def overcast(rng: np.random.Generator) -> np.ndarray:
    """A white sky of soft clouds."""
    return brush.ramp(0.66 + 0.2 * brush.clouds(rng, SIDE, SIDE, 2, 2), *OVERCAST)


def blossom(rng: np.random.Generator) -> np.ndarray:
    """A tree in flower: white and pink over fresh green, out of focus."""
    plate = _leafy(rng, LEAVES, rng.uniform(0.4, 1.2))
    for count, sizes, blur, weight in (
        (60, (0.03, 0.06), 0.016, 0.75),
        (90, (0.018, 0.034), 0.006, 0.95),
    ):
        petals, mask = _blobs(rng, count, sizes, blur, 0.85)
        brush.lay(plate, brush.ramp(0.4 + 0.8 * petals, *PETALS), mask * weight)
    return plate


def dusk(rng: np.random.Generator) -> np.ndarray:
    """A glowing evening: dark violet above, gold toward a line of black trees."""
    height = np.linspace(0.1, 1.0, SIDE, dtype=np.float32)[:, None] ** rng.uniform(0.9, 1.4)
    streaks = brush.noise(rng, SIDE, SIDE, (14, 3)) * 0.06
    plate = brush.ramp(height + streaks, *DUSK)
    skyline = (
        0.86
        + 0.08 * brush.noise(rng, 1, SIDE, (2, 7))[0]
        + 0.02 * brush.noise(rng, 1, SIDE, (2, 40))[0]
    )
    rows = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None]
    brush.lay(plate, "#241d2c", brush.ease((rows - skyline) * 14 + 0.5))
    return plate


def lawn(rng: np.random.Generator) -> np.ndarray:
    """A mown lawn before a hedge, with flowers out of focus."""
    plate = _leafy(rng, LEAVES, rng.uniform(-0.8, 0.2)) * 0.9
    grain = brush.noise(rng, SIDE, SIDE, (60, 24)) * 0.1 + brush.clouds(rng, SIDE, SIDE, 3, 2) * 0.1
    rows = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None]
    edge = rng.uniform(0.3, 0.55)
    brush.lay(
        plate, brush.ramp(0.62 - 0.15 * rows + grain, *GRASS), brush.ease((rows - edge) * 10 + 0.5)
    )
    for color in rng.permutation(["#f6f3ec", "#f3d04a", "#d95f8a", "#f0a0b8"])[
        : rng.integers(0, 3)
    ]:
        _bokeh(rng, plate, rng.integers(2, 6), brush.rgb(str(color)), 0.025)
    return plate


def winter(rng: np.random.Generator) -> np.ndarray:
    """Cold haze, bare trunks, falling snow."""
    value = (
        0.66 + 0.12 * brush.clouds(rng, SIDE, SIDE, 3, 2) + np.linspace(-0.1, 0.14, SIDE)[:, None]
    )
    plate = brush.ramp(value.astype(np.float32), *WINTER)
    _trunks(rng, plate, "#4c4a50", rng.integers(2, 6))
    plate = brush.to_plate(brush.to_image(plate).filter(ImageFilter.GaussianBlur(2.5)))
    _bokeh(rng, plate, rng.integers(20, 60), brush.rgb("#ffffff"), 0.014)
    return plate


def _sunlit(rng: np.random.Generator, plate: np.ndarray, blur: float) -> np.ndarray:
    """Broad soft light and shade on a wall, then out of focus."""
    plate = plate * (0.94 + 0.22 * brush.clouds(rng, SIDE, SIDE, 2, 3))
    return brush.to_plate(brush.to_image(plate).filter(ImageFilter.GaussianBlur(blur)))


def fence(rng: np.random.Generator) -> np.ndarray:
    """Boards of a wooden fence with their grain."""
    count = rng.integers(4, 8)
    columns = np.linspace(0, count, SIDE, dtype=np.float32)[None] + rng.uniform()
    tone = rng.uniform(-0.1, 0.1, 12).astype(np.float32)[np.floor(columns).astype(int)]
    grain = 0.09 * brush.noise(rng, SIDE, SIDE, (6, 70)) + 0.06 * brush.noise(
        rng, SIDE, SIDE, (3, 9)
    )
    gap = brush.ease(1 - np.abs(np.modf(columns)[0] - 0.5) * 2) ** 0.25
    plate = brush.ramp((0.5 + tone + grain) * (0.25 + 0.75 * gap), *WOOD)
    return _sunlit(rng, plate, 1.2)


def bricks(rng: np.random.Generator) -> np.ndarray:
    """A brick wall with pale mortar."""
    rows = np.linspace(0, rng.uniform(6, 9), SIDE, dtype=np.float32)[:, None] * np.ones(
        (1, SIDE), np.float32
    )
    columns = np.linspace(0, 4, SIDE, dtype=np.float32)[None] + 0.5 * (np.floor(rows) % 2)
    tones = rng.uniform(-0.2, 0.2, (16, 16)).astype(np.float32)
    tone = tones[np.floor(rows).astype(int), np.floor(columns).astype(int)]
    edge = np.minimum(
        0.5 - np.abs(np.modf(rows)[0] - 0.5), (0.5 - np.abs(np.modf(columns)[0] - 0.5)) * 2
    )
    value = 0.42 + tone + 0.1 * brush.clouds(rng, SIDE, SIDE, 12, 2)
    plate = brush.ramp(value, *BRICK)
    brush.lay(plate, "#c9b8a4", brush.ease((0.08 - edge) * 16))
    return _sunlit(rng, plate, rng.uniform(1.2, 2.2))


BACKDROPS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    painter.__name__: painter
    for painter in (foliage, autumn, blossom, clear, overcast, dusk, lawn, winter, fence, bricks)
}


def sunlight(canvas: np.ndarray, side: int, strength: float, color: str) -> None:
    """A haze of light from one upper corner over a plate in place; `side` is -1 left, 1 right."""
    reach = np.linspace(0, 1, canvas.shape[1], dtype=np.float32)
    across = reach if side < 0 else 1 - reach
    distance = np.hypot(across[None], 1.2 * reach[:, None])
    brush.lay(canvas, color, strength * brush.ease(1 - 0.8 * distance) ** 1.5)


def snowfall(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Flakes before the lens, near ones large and faint, over a plate in place."""
    side = canvas.shape[1]
    image = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(14, 40)):
        (x, y), near = rng.uniform(0, side, 2), rng.beta(1, 3)
        radius = side * (0.003 + 0.012 * near)
        box = (x - radius, y - 1.2 * radius, x + radius, y + 1.2 * radius)
        draw.ellipse(box, fill=int(230 - 150 * near))
    soft = image.filter(ImageFilter.GaussianBlur(side * 0.0035))
    brush.lay(canvas, "#ffffff", brush.to_mask(soft))


def backdrop(name: str, rng: np.random.Generator, side: int) -> np.ndarray:
    """Paint the backdrop `name` as a plate (3, side, side)."""
    small = brush.to_image(BACKDROPS[name](rng))
    return brush.to_plate(small.resize((side, side), Image.Resampling.BICUBIC))
