"""Paints one bird in a garden, with all that surrounds it."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from scripts.painter import brush, perch, plants, scenery
from scripts.painter.anatomy import Pose, extent
from scripts.painter.bird import paint_bird
from scripts.painter.fieldguide import Species
from scripts.painter.species import SPECIES

# How much of the scenery's color is kept: real gardens are duller than paint.
MUTED = 0.7


@dataclass(frozen=True)
class Scene:
    """What surrounds a bird, how often, the color of its light, the most haze of sun."""

    backdrop: str
    perch: str
    season: str
    weight: int
    light: str = "#fffdf6"
    sun: float = 0.0


SCENES = (
    Scene("foliage", "branch", "summer", 7, sun=0.55),
    Scene("foliage", "post", "summer", 2, sun=0.55),
    Scene("foliage", "pot", "summer", 2, sun=0.55),
    Scene("lawn", "ground", "summer", 4, sun=0.55),
    Scene("lawn", "ground", "spring", 3, sun=0.55),
    Scene("blossom", "branch", "spring", 2),
    Scene("clear", "branch", "spring", 3),
    Scene("clear", "post", "summer", 3),
    Scene("overcast", "branch", "bare", 1, "#f6f9fd"),
    Scene("dusk", "branch", "bare", 2, "#f2cdb8"),
    Scene("dusk", "post", "summer", 1, "#f2cdb8"),
    Scene("autumn", "branch", "autumn", 3, "#fff4e0", sun=0.55),
    Scene("autumn", "ground", "autumn", 2, "#fff4e0", sun=0.55),
    Scene("winter", "branch", "winter", 3, "#f4f9ff"),
    Scene("winter", "ground", "winter", 2, "#f4f9ff"),
    Scene("fence", "pot", "summer", 1),
    Scene("fence", "ground", "spring", 1),
    Scene("bricks", "pot", "summer", 2),
)


def paint(species: str, seed: int, size: int = 256) -> Image.Image:
    """Paint one bird in a garden.

    The same species, seed and size give the same pixels in any process and order, but not on any
    processor: see `__main__`. RGB, `size` squared. Raises ValueError for a species that is not
    among `SPECIES`.
    """
    if species not in SPECIES:
        raise ValueError(
            f"Expected a species among {', '.join(SPECIES)}. Received: species={species!r}"
        )
    bird = SPECIES[species]
    rng = np.random.default_rng([seed, list(SPECIES).index(species)])
    side = size * 3 // 2
    weights = np.array([scene.weight for scene in SCENES], float)
    scene = SCENES[rng.choice(len(SCENES), p=weights / weights.sum())]
    canvas = scenery.backdrop(scene.backdrop, rng, side)
    pose = _pose(bird, rng, side, scene.perch)
    if scene.perch != "ground" and scene.season in ("summer", "autumn") and rng.uniform() < 0.4:
        plants.near_leaves(canvas, rng, scene.season)
    if scene.sun:
        scenery.sunlight(canvas, pose.light, rng.uniform(0, scene.sun), "#fff3cf")
    before = canvas.copy()
    perch.PERCHES[scene.perch](canvas, rng, pose.x, pose.y, scene.season)
    perch.shadow(canvas, np.abs(canvas - before).max(0) > 0.02, pose)
    canvas = brush.muted(canvas, MUTED)
    paint_bird(canvas, bird, pose, rng)
    if scene.perch == "ground" and scene.season != "winter":
        plants.blades(canvas, rng, pose.y + 0.02 * side, side * 1.05, 60)
    if scene.season == "winter":
        scenery.snowfall(canvas, rng)
    return _finish(canvas * brush.rgb(scene.light)[:, None, None], rng, size)


def _pose(bird: Species, rng: np.random.Generator, side: int, support: str) -> Pose:
    """A natural pose that keeps the whole bird in the picture, most of the time."""
    grounded = support == "ground"
    tilt = bird.shape.tilt * (0.55 if grounded else 1.0) + rng.uniform(-6, 6)
    facing, light = (int(rng.choice([-1, 1])) for _ in range(2))
    lift = rng.uniform(-4, 10) + 8 * grounded
    pose = Pose(
        0, 0, 1, facing, tilt, nod=rng.uniform(-12, 14), lift=lift, light=light,
        warmth=rng.uniform(-0.5, 0.7), grips=not grounded,
    )  # fmt: skip
    back, front, above, _ = extent(bird.shape, pose)
    room = min(side / (back + front), 0.7 * side / above)
    scale = min(rng.uniform(0.74, 1.0) * room, side * 0.29) * min(1.0, bird.shape.size)
    slack = side - (back + front) * scale
    x = back * scale + slack * rng.uniform(0.2, 0.65)
    y = max(side * rng.uniform(0.68, 0.8), above * scale + 0.03 * side)
    return replace(pose, x=x if facing > 0 else side - x, y=y, scale=scale)


def _finish(canvas: np.ndarray, rng: np.random.Generator, size: int) -> Image.Image:
    """The picture at its size, with a film's contrast, exposure, vignette, and grain in luma."""
    image = brush.to_image(canvas).resize((size, size), Image.Resampling.LANCZOS)
    plate = brush.to_plate(image)
    plate = brush.muted(plate + 0.4 * (brush.ease(plate) - plate), 0.92)
    reach = np.linspace(-1, 1, size, dtype=np.float32)
    corner = np.hypot(reach[:, None], reach[None])
    plate *= rng.uniform(0.94, 1.05) * (1 - rng.uniform(0.03, 0.1) * corner**3)
    grain = rng.normal(0, rng.uniform(0.004, 0.011), (size, size)).astype(np.float32)
    return brush.to_image(plate + grain)
