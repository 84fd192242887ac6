"""The words of a field guide: areas of a bird, marks of color on them, proportions.

A bird is painted like a field-guide plate: one base color, then marks in order. A mark lays one
color on one area; an area is a soft ellipse in a frame of the bird (head, body, wing or tail), so
that it follows every pose.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Area:
    """A soft, turned ellipse in one frame of the bird.

    Frames: "head" (unit: its radius; x to the bill, y up), "body" (x -1 tail..1 breast, y -1
    belly..1 back), "wing" (x 0 shoulder..1 tip, y -1 lower..1 upper edge), "tail" (x 0 root..1 end,
    y -1..1). `turn` in degrees, `soft` is the width of the edge, relative to the radius.
    """

    frame: str
    x: float
    y: float
    rx: float
    ry: float
    turn: float = 0.0
    soft: float = 0.3


@dataclass(frozen=True)
class Mark:
    """One color on one area; `pattern` is plain, spots, speckles, streaks, bars or sheen."""

    area: Area
    color: str
    pattern: str = "plain"
    strength: float = 1.0


@dataclass(frozen=True)
class Shape:
    """Proportions; lengths in halves of the body's length, angles in degrees.

    `size` is the room that the bird takes in the picture, `tail_fork` is above 0 notched and below
    0 graduated.
    """

    size: float = 1.0
    depth: float = 0.66
    head: float = 0.46
    neck: float = 0.34
    tilt: float = 32.0
    bill: float = 0.36
    bill_depth: float = 0.13
    bill_hook: float = 0.0
    tail: float = 1.05
    tail_width: float = 0.17
    tail_fork: float = 0.0
    tail_lift: float = 0.0
    wing: float = 2.0
    wing_width: float = 0.37
    legs: float = 0.34
    leg_width: float = 0.05


@dataclass(frozen=True)
class Species:
    """A bird: its folder name in the Kaggle archive, its shape, and its colors as #rrggbb."""

    name: str
    shape: Shape
    base: str
    wing: str
    flight: str
    edge: str
    tail: str
    bill: str
    legs: str
    marks: tuple[Mark, ...]
    iris: str = "#15100e"
    ring: str | None = None
    tail_edge: str | None = None
    gloss: float = 0.0


# Areas that several birds share.
CAP = Area("head", -0.1, 0.92, 1.25, 0.72, 0, 0.18)
CHEEK = Area("head", -0.02, -0.22, 0.62, 0.36, 0, 0.25)
STRIPE = Area("head", 0.15, 0.13, 0.95, 0.11, 0, 0.6)
BROW = Area("head", 0.1, 0.42, 0.75, 0.13, -4, 0.6)
BIB = Area("head", 0.62, -0.72, 0.5, 0.42, 25, 0.3)
HOOD = Area("head", 0.0, 0.1, 1.35, 1.15, 0, 0.15)
NAPE = Area("head", -0.85, -0.1, 0.5, 0.75, 20, 0.5)
COLLAR = Area("head", -0.5, -0.95, 1.0, 0.2, 25, 0.5)
THROAT = Area("body", 0.95, 0.1, 0.42, 0.75, 0, 0.5)
BREAST = Area("body", 0.78, -0.3, 0.62, 0.8, 0, 0.4)
UNDER = Area("body", 0.3, -0.78, 1.2, 0.8, 5, 0.35)
BELLY = Area("body", -0.15, -0.85, 0.9, 0.6, 0, 0.7)
FLANK = Area("body", -0.1, -0.45, 0.85, 0.4, 0, 0.8)
VENT = Area("body", -0.95, -0.45, 0.55, 0.42, 0, 0.5)
MANTLE = Area("body", -0.05, 0.75, 1.1, 0.65, 0, 0.5)
RUMP = Area("body", -1.0, 0.35, 0.45, 0.5, 0, 0.5)
BAR = Area("wing", 0.32, -0.12, 0.026, 0.85, -5, 0.8)
BAR_2 = Area("wing", 0.47, -0.05, 0.022, 0.85, -5, 0.8)
PANEL = Area("wing", 0.68, -0.45, 0.24, 0.3, -4, 0.4)
WING = Area("wing", 0.4, 0.0, 0.8, 1.5, 0, 0.1)
TIP = Area("wing", 0.95, 0.0, 0.3, 1.5, 0, 0.5)
TAIL_END = Area("tail", 1.0, 0.0, 0.14, 1.4, 0, 0.4)
TAIL = Area("tail", 0.5, 0.0, 0.9, 1.5, 0, 0.3)
ALL = Area("body", 0.2, 0.2, 2.6, 3.0, 0, 0.3)
