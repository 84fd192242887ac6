"""What a bird wears: the marks of its species and their feather patterns, flat, before light."""

import numpy as np

from scripts.painter import brush
from scripts.painter.anatomy import Frames, inside, turn
from scripts.painter.fieldguide import Mark, Species


def cells(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Jittered bricks: coordinates within each, -0.5..0.5, and a random number 0..1 for each."""
    row = np.floor(y)
    x = x + 0.5 * (row % 2)
    column = np.floor(x)
    chance = np.modf(np.abs(np.sin(column * 12.9898 + row * 78.233) * 43758.547))[0]
    other = np.modf(chance * 91.7)[0]
    return x - column - 0.5 + 0.35 * (chance - 0.5), y - row - 0.5 + 0.35 * (other - 0.5), chance


def pattern(name: str, place: Frames) -> np.ndarray | float:
    """How strongly a mark of this pattern shows at every pixel, 0..1."""
    p, q = place.body
    if name == "spots":
        dx, dy, chance = cells(p * 9.5 + 1.2 * np.sin(2 * q), q * 7.0 + 0.8 * np.sin(3 * p))
        return brush.ease((0.12 + 0.24 * chance - np.hypot(dx * 0.75, dy) - 0.3 * dx) * 8 + 0.4)
    if name == "speckles":
        dx, dy, chance = cells(p * 13 + np.sin(2 * q), q * 10 + 0.8 * np.sin(3 * p))
        return brush.ease((0.02 + 0.3 * chance - np.hypot(dx, dy * 0.8) - 0.4 * dx) * 6 + 0.2)
    if name == "streaks":
        dx, dy, chance = cells(p * 4.0, q * 7.0)
        return brush.ease((0.2 + 0.12 * chance - np.hypot(dx * 0.42, dy)) * 7 + 0.4)
    if name == "bars":
        return brush.ease(1.6 * np.sin(p * 38 + 5.0 * q * q + 0.9 * np.sin(q * 11 + 4 * p)) + 0.1)
    if name == "sheen":
        return 0.5 + 0.5 * np.sin(3.1 * p + 4.3 * q + 1.5 * np.sin(2.3 * p - 3.7 * q))
    return 1.0


def mask(mark: Mark, place: Frames, ragged: np.ndarray) -> np.ndarray:
    """Where a mark lies, 0..1, its edges ragged by the feathers."""
    area = mark.area
    x, y = getattr(place, area.frame)
    dx, dy = turn(x - area.x, y - area.y, area.turn)
    distance = np.hypot(dx / area.rx, dy / area.ry) + ragged / min(1.0, 6 * min(area.rx, area.ry))
    shown = brush.ease((1 - distance) / area.soft + 0.5)
    return shown * (mark.strength * pattern(mark.pattern, place))


def coat(
    species: Species, place: Frames, ragged: np.ndarray, head: tuple[slice, slice]
) -> np.ndarray:
    """The plumage of body and head; marks of the head are laid in its box only."""
    plate = np.empty((3, *ragged.shape), np.float32)
    plate[:] = brush.rgb(species.base)[:, None, None]
    for mark in species.marks:
        if mark.area.frame == "body":
            brush.lay(plate, mark.color, mask(mark, place, ragged))
        elif mark.area.frame == "head":
            brush.lay(
                plate[(slice(None), *head)], mark.color, mask(mark, place.cut(head), ragged[head])
            )
    return plate


def tail(
    species: Species, place: Frames, ragged: np.ndarray, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """The feathers of the tail: a plate and its coverage."""
    s, t = place.tail
    shape = species.shape
    end = 1 + 0.12 * shape.tail_fork * (np.abs(t) - 0.5) - 0.05 * t * t + 0.02 * np.cos(9 * t)
    across = (np.abs(t) - 1) * shape.tail_width
    cover = inside(np.maximum(across, np.maximum(s - end, -s) * shape.tail), unit)
    vane = np.modf(np.abs(t * 2.4 + 5))[0]
    plate = brush.rgb(species.tail)[:, None, None] * (1.12 - 0.34 * vane - 0.12 * (t < 0))
    if species.tail_edge:
        brush.lay(plate, species.tail_edge, brush.ease((np.abs(t) - 0.62) * 8))
    for mark in species.marks:
        if mark.area.frame == "tail":
            brush.lay(plate, mark.color, mask(mark, place, ragged))
    return plate, cover


def wing(
    species: Species, place: Frames, ragged: np.ndarray, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """The folded wing, coverts like scales, then long feathers: a plate and its coverage."""
    s, t = place.wing
    distance = np.maximum((np.abs(t) - 1) * species.shape.wing_width * 0.6, np.maximum(-s, s - 1))
    cover = inside(distance, unit) * brush.ease(s * 7 + 0.15 + 2 * ragged)
    flight = brush.ease((s + 0.05 * t * t - 0.07 * t + 0.2 * ragged - 0.47) * 26)
    plate = np.empty((3, *s.shape), np.float32)
    plate[:] = brush.rgb(species.wing)[:, None, None]
    brush.lay(plate, species.flight, flight)
    vane = np.modf(np.abs(t * 3.6 + 1.5 * s + 12))[0]
    edges = brush.ease((vane - 0.74) * 7) * flight * np.clip(3.4 - 3.4 * s, 0, 1)
    brush.lay(plate, species.edge, 0.75 * edges)
    dx, dy, _ = cells(s * 15, t * 3.2)
    scale = brush.ease((np.hypot(dx, dy) - 0.36) * 5) * (1 - flight)
    brush.lay(plate, species.edge, 0.38 * scale)
    plate *= 1 - 0.3 * flight * (1 - vane) - 0.16 * scale * (dx > 0)
    for mark in species.marks:
        if mark.area.frame == "wing":
            brush.lay(plate, mark.color, mask(mark, place, ragged))
    return plate, cover
