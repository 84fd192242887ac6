"""Paints what a bird stands on, in focus: branch, post, pot, lawn or snow.

Each painter changes a plate in place and takes the height of the feet in pixels at the column of
the bird.
"""

from collections.abc import Callable

import numpy as np
from PIL import ImageDraw, ImageFilter

from scripts.painter import brush, plants
from scripts.painter.anatomy import Pose

BARK = ("#1a120c", "#3d2b1e", "#66503c", "#927a60", "#bca78c", "#dccdb6")
WEATHERED = ("#2c231c", "#5c4a3a", "#857059", "#ab967c", "#cdbda4", "#e6dcc8")
TERRACOTTA = ("#4a2216", "#8a4128", "#b65f3c", "#cf8058", "#e4aa86", "#f4d6bf")
SNOW = ("#6f83a6", "#9db0cc", "#c6d4e6", "#e6edf5", "#ffffff")


def branch(canvas: np.ndarray, rng: np.random.Generator, x: float, y: float, season: str) -> None:
    """A branch across the picture, with bark, moss, twigs and the leaves of the season."""
    side = canvas.shape[1]
    thick = side * rng.uniform(0.035, 0.065)
    slope, bend = rng.uniform(-0.16, 0.16), rng.uniform(-0.04, 0.04)
    columns = np.arange(side, dtype=np.float32)
    offset = (columns - x) / side
    wobble = brush.noise(rng, 1, side, (2, 9))[0] * 0.1 * thick
    wobble -= wobble[int(np.clip(x, 0, side - 1))]
    line = y + side * (slope * offset + bend * (np.cos(offset * 5) - 1)) + wobble
    width = (
        thick
        * (1 - 0.5 * offset * np.sign(slope or 1))
        * (1 + 0.1 * brush.noise(rng, 1, side, (2, 14))[0])
    )
    _twigs(canvas, rng, line, width, thick, season)
    top, bottom = max(0, int(line.min() - 4)), min(side, int((line + 2 * width).max()) + 4)
    rows = np.arange(top, bottom, dtype=np.float32)[:, None]
    n = (rows - line - width) / width
    mask = np.clip((1 - np.abs(n)) * width * 0.7 + 0.5, 0, 1)
    shape = n.shape
    grain = brush.noise(rng, *shape, (max(8, shape[0] // 4), side // 30)) * 0.2
    grain += (
        brush.noise(rng, *shape, (shape[0] // 3, side // 5)) * 0.14
        + brush.noise(rng, *shape, (4, 30)) * 0.1
    )
    value = 0.16 + 0.5 * np.sqrt(np.clip(1 - (n * 0.5 + 0.45) ** 2, 0, 1)) + grain
    wood = brush.ramp(value - 0.1 * np.clip(n, 0, 1), *BARK)
    if season in ("spring", "summer"):
        moss = brush.ease((brush.clouds(rng, *shape, 7, 3) - 0.35 * n - 0.45) * 4)
        fuzz = 0.35 + 0.5 * brush.noise(rng, *shape, (shape[0] // 2, side // 3))
        brush.lay(wood, brush.ramp(fuzz, *plants.BLADES), 0.9 * moss)
    brush.lay(canvas[:, top:bottom], wood, mask)
    if season == "winter":
        _snow_cap(canvas, rng, line, thick)


def _twigs(
    canvas: np.ndarray,
    rng: np.random.Generator,
    line: np.ndarray,
    width: np.ndarray,
    thick: float,
    season: str,
) -> None:
    """Twigs from a branch's middle line, with what they bear in this season."""
    side = canvas.shape[1]
    image = brush.to_image(canvas)
    draw, places = ImageDraw.Draw(image), []
    for _ in range(rng.integers(2, 5)):
        start = int(rng.uniform(0.02, 0.98) * side)
        angle = rng.uniform(-2.6, -0.5) if rng.uniform() < 0.75 else rng.uniform(0.6, 2.5)
        px, py = float(start), float(line[start] + width[start])
        for step in range(5):
            nx, ny = px + np.cos(angle) * side * 0.05, py + np.sin(angle) * side * 0.05
            draw.line(
                [(px, py), (nx, ny)], (84, 66, 48), max(2, round(thick * (0.36 - 0.06 * step)))
            )
            px, py, angle = nx, ny, angle + rng.uniform(-0.3, 0.3)
            places += [(px, py, angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1))]
        places.append((px, py, angle))
    canvas[:] = brush.to_plate(image.filter(ImageFilter.GaussianBlur(0.7)))
    if season in ("spring", "summer", "autumn"):
        plants.leaves(
            canvas, rng, places, side * 0.075, plants.FALL if season == "autumn" else plants.LEAF
        )
    if season == "spring":
        plants.flowers(canvas, rng, places, side * 0.026)
    elif season in ("autumn", "winter"):
        plants.berries(canvas, rng, places, side * 0.013)


def shadow(canvas: np.ndarray, perch: np.ndarray, pose: Pose) -> None:
    """Darken a perch, true in (H, W), below a bird and away from the light, in place."""
    side, length = canvas.shape[1], 0.9 * pose.scale
    rows, columns = (
        np.arange(side, dtype=np.float32)[:, None],
        np.arange(side, dtype=np.float32)[None],
    )
    across = (columns - pose.x + 0.25 * pose.light * length) / length
    distance = np.hypot(across, (rows - pose.y - 0.06 * length) / (0.2 * length))
    canvas *= 1 - 0.5 * brush.ease(1.1 - distance) * perch


def _snow_cap(canvas: np.ndarray, rng: np.random.Generator, line: np.ndarray, thick: float) -> None:
    """Heaps of snow along the upper edge of a branch."""
    side = canvas.shape[1]
    heap = thick * np.clip(0.5 + 0.7 * brush.noise(rng, 1, side, (2, 12))[0], 0.05, 1.2)
    rows = np.arange(side, dtype=np.float32)[:, None]
    depth = (rows - (line - heap * 0.75)) / (heap * 1.5 + 1)
    mask = np.clip((1 - np.abs(depth * 2 - 1)) * heap * 0.7, 0, 1)
    value = 1.02 - 0.6 * np.clip(depth, 0, 1) ** 2 + 0.03 * brush.noise(rng, side, side, (150, 150))
    brush.lay(canvas, brush.ramp(value, *SNOW), mask)


def post(canvas: np.ndarray, rng: np.random.Generator, x: float, y: float, season: str) -> None:
    """A weathered fence post with upright grain."""
    side = canvas.shape[1]
    half = side * rng.uniform(0.09, 0.14)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    n = (columns - x) / half
    mask = np.clip((1 - np.abs(n)) * half, 0, 1) * np.clip(rows - y + side * 0.012 * n * n, 0, 1)
    grain = (
        brush.noise(rng, side, side, (5, side // 5)) * 0.16
        + brush.noise(rng, side, side, (3, side // 16)) * 0.12
    )
    value = (
        0.58
        + grain
        - 0.22 * np.abs(n + 0.3) ** 2
        + 0.25 * np.exp(-(rows - y) / (side * 0.016)).clip(0, 1)
    )
    brush.lay(canvas, brush.ramp(value, *WEATHERED), mask)


def pot(canvas: np.ndarray, rng: np.random.Generator, x: float, y: float, season: str) -> None:
    """The rim of a terracotta flower pot."""
    side = canvas.shape[1]
    half, rim = side * rng.uniform(0.22, 0.3), side * 0.085
    x = x + rng.uniform(-0.4, 0.4) * half
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    n = (columns - x) / half
    curve = y + side * 0.02 * (n * n - 0.2)
    below = rows - curve
    narrow = 1 - 0.08 * (below > rim) - 0.1 * np.clip(below - rim, 0, None) / side
    mask = np.clip((narrow - np.abs(n)) * half, 0, 1) * np.clip(below, 0, 1)
    value = 0.62 - 0.42 * (n + 0.35) ** 2 + 0.05 * brush.clouds(rng, side, side, 10, 4)
    value = (
        value
        - 0.22 * np.exp(-((below - rim - 4) ** 2) / 60) * (below > rim)
        + 0.2 * np.exp(-below.clip(0) / 5)
    )
    brush.lay(canvas, brush.ramp(value, *TERRACOTTA), mask)


def ground(canvas: np.ndarray, rng: np.random.Generator, x: float, y: float, season: str) -> None:
    """A lawn of single blades, blurred in the distance; under snow in winter."""
    side = canvas.shape[1]
    horizon = y - side * rng.uniform(0.1, 0.18)
    rows = np.arange(side, dtype=np.float32)[:, None]
    near = np.clip((rows - horizon) / (side - horizon), 0, 1)
    mask = brush.ease((rows - horizon) / (side * 0.06))
    if season == "winter":
        drift = brush.clouds(rng, side, side, 3, 4)
        value = (
            0.82
            + 0.12 * drift
            + 0.06 * brush.noise(rng, side, side, (side // 2, side // 2))
            - 0.2 * near
        )
        brush.lay(canvas, brush.ramp(value, *SNOW), mask)
        return
    base = (
        0.42
        + 0.14 * brush.clouds(rng, side, side, 4, 2)
        + 0.1 * brush.noise(rng, side, side, (side // 4, side // 7))
    )
    brush.lay(canvas, brush.ramp(base - 0.22 * near, *plants.BLADES), mask)
    plants.blades(canvas, rng, horizon + 0.01 * side, side * 1.06, 900)
    if season == "autumn":
        places = [
            (rng.uniform(0, side), rng.uniform(y - 0.04 * side, side), rng.uniform(0, 6.3))
            for _ in range(14)
        ]
        plants.leaves(canvas, rng, places, side * 0.055, plants.FALL)
    elif season == "spring":
        plants.daisies(canvas, rng, horizon, side)


PERCHES: dict[str, Callable] = {
    painter.__name__: painter for painter in (branch, post, pot, ground)
}
