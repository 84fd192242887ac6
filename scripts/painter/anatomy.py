"""Where everything is on a bird: its pose, the frames of its parts, its outline.

Bird units: half the body's length is 1, x toward the bill, y up, the body's middle at (0, 0).
Everything is a function of these coordinates, so edges are smooth at any size. The outline is a
union of soft shapes by the polynomial smooth minimum (Quilez, "Smooth minimum").
"""

from dataclasses import dataclass, fields

import numpy as np

from scripts.painter.fieldguide import Shape

# Where the eye sits in the head's frame.
EYE = 0.36, 0.15


@dataclass(frozen=True)
class Pose:
    """Where and how a bird stands.

    Feet at (x, y) in pixels, `scale` pixels a bird unit, angles in degrees. `facing` is 1 to the
    right and -1 to the left; `light` is 1 when the light comes from the right, else -1; `warmth`
    -1..1 is the light's color; `grips` tells a perch from flat ground.
    """

    x: float
    y: float
    scale: float
    facing: int = 1
    tilt: float = 30.0
    nod: float = 0.0
    lift: float = 0.0
    light: int = 1
    warmth: float = 0.0
    grips: bool = True


@dataclass(frozen=True)
class Frames:
    """Every pixel's place in the frames of `fieldguide.Area`.

    Float32 (2, H, W) each; `plane` is in bird units.
    """

    plane: np.ndarray
    body: np.ndarray
    head: np.ndarray
    wing: np.ndarray
    tail: np.ndarray
    bill: np.ndarray

    def cut(self, box: tuple[slice, slice]) -> "Frames":
        """The same frames, for a part of the window."""
        return Frames(*(getattr(self, each.name)[(slice(None), *box)] for each in fields(self)))


def turn(x, y, degrees: float):
    """Coordinates in a frame that is turned counterclockwise by `degrees`."""
    cos, sin = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    return x * cos + y * sin, y * cos - x * sin


def foot(shape: Shape, tilt: float) -> tuple[float, float]:
    """Where the feet stand below the body's middle, in bird units."""
    sin, cos = np.sin(np.radians(tilt)), np.cos(np.radians(tilt))
    return 0.1, -float(0.86 * np.hypot(0.85 * sin, shape.depth * cos) + shape.legs)


def head_place(shape: Shape, tilt: float) -> tuple[float, float]:
    """The head's middle in bird units."""
    x, y = turn(0.72, 0.1, -tilt)
    return float(x) + 0.57 * shape.neck, float(y) + 0.82 * shape.neck


def extent(shape: Shape, pose: Pose) -> tuple[float, float, float, float]:
    """How far the bird reaches backward, forward, above and below its feet, in bird units."""
    sin, cos = np.sin(np.radians(pose.tilt)), np.cos(np.radians(pose.tilt))
    tail = np.radians(pose.tilt - shape.tail_lift - pose.lift + 6)
    end = 0.2 + shape.tail
    tail_x = 0.95 * cos + max(end * np.cos(tail), 0) + shape.tail_width
    tail_down = 0.95 * sin + end * np.sin(tail) + shape.tail_width
    foot_x, foot_y = foot(shape, pose.tilt)
    head_x, head_y = head_place(shape, pose.tilt)
    return (
        max(1.3 * cos, tail_x) + foot_x + 0.08,
        head_x + 0.9 * shape.head + shape.bill - foot_x + 0.08,
        max(head_y + shape.head, -tail_down) - foot_y + 0.15, max(tail_down + foot_y, 0.3) + 0.08,
    )  # fmt: skip


def window(shape: Shape, pose: Pose, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of a canvas that hold the bird's body, never less than one of each."""
    back, front, above, below = (length * pose.scale for length in extent(shape, pose))
    left, right = (back, front) if pose.facing > 0 else (front, back)
    top, side = max(0, int(pose.y - above)), max(0, int(pose.x - left))
    return slice(top, min(height, int(pose.y + below))), slice(
        side, min(width, int(pose.x + right))
    )


def frames(shape: Shape, pose: Pose, rows: slice, columns: slice) -> Frames:
    """Lay the frames of the bird's parts over a window of the canvas."""
    foot_x, foot_y = foot(shape, pose.tilt)
    x = (np.arange(columns.start, columns.stop, dtype=np.float32) - pose.x) * (
        pose.facing / pose.scale
    ) + foot_x
    y = (pose.y - np.arange(rows.start, rows.stop, dtype=np.float32)) / pose.scale + foot_y
    x, y = (np.ascontiguousarray(each) for each in np.broadcast_arrays(x[None], y[:, None]))
    p, q = turn(x, y, pose.tilt)
    head_x, head_y = head_place(shape, pose.tilt)
    u, v = turn((x - head_x) / shape.head, (y - head_y) / shape.head, pose.nod)
    along, across = turn(0.72 - p, q - 0.16 * shape.depth, -5)
    s = along / shape.wing
    wing_width = shape.wing_width * np.sin(np.pi * np.clip(s, 1e-3, 1) ** 0.55) ** 0.8 + 1e-3
    tail_s, tail_t = turn(-0.95 - p, q - 0.02, shape.tail_lift + pose.lift - 6)
    tail_s = tail_s / (shape.tail + 0.2)
    tail_t = tail_t / (shape.tail_width * (0.72 + 0.42 * tail_s))
    bill = (u - 0.84) * (shape.head / shape.bill), (v + 0.06) * (shape.head / shape.bill_depth)
    pairs = (
        (x, y),
        (p, q / shape.depth),
        (u, v),
        (s, (across + 0.1 * s * s) / wing_width),
        (tail_s, tail_t),
        bill,
    )
    return Frames(*(np.stack(pair).astype(np.float32) for pair in pairs))


def _capsule(x, y, start, end, radius_start, radius_end):
    """Distance to a rounded cone."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    distance = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
    return distance - (radius_start + (radius_end - radius_start) * along)


def _join(first, second, softness):
    """Smooth minimum of two distances."""
    blend = np.clip(0.5 + 0.5 * (second - first) / softness, 0, 1)
    return second + (first - second) * blend - softness * blend * (1 - blend)


def silhouette(shape: Shape, pose: Pose, place: Frames) -> np.ndarray:
    """Distance to the bird's outline in bird units, float32 (H, W), negative inside."""
    p, q = place.body
    depth = shape.depth
    swell = 1 + 0.2 * np.clip(p, -1, 1) * (q < 0) + 0.06 * np.clip(p, -1, 1)
    body = (np.sqrt((0.97 * p) ** 2 + (q / swell) ** 2) - 1) * depth
    u, v = place.head
    head = _capsule(u, v, (-0.1, 0.0), (0.42, -0.07), 1.0, 0.58) * shape.head
    chest = turn(0.5, -0.02, -pose.tilt)
    throat = _capsule(
        *place.plane, chest, head_place(shape, pose.tilt), 0.84 * depth, 0.86 * shape.head
    )
    rump = _capsule(p, q * depth, (-0.5, 0.03), (-1.28, 0.03), 0.5 * depth, 0.1)
    return _join(_join(_join(body, throat, 0.14), head, 0.12), rump, 0.2)


def inside(distance: np.ndarray, unit: float) -> np.ndarray:
    """Coverage of a shape from its distance in units of `unit` pixels, 1.5 pixels soft."""
    return np.clip(0.5 - distance * (unit / 1.5), 0, 1)
