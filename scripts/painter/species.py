"""The twenty birds of the Kaggle set: shape, plumage and colors, after the real ones.

Names are the folders of the Kaggle archive. `fieldguide` tells how marks and areas work.
"""

from dataclasses import replace

from scripts.painter.fieldguide import (
    ALL,
    BAR,
    BAR_2,
    BELLY,
    BIB,
    BREAST,
    BROW,
    CAP,
    CHEEK,
    COLLAR,
    FLANK,
    HOOD,
    MANTLE,
    NAPE,
    PANEL,
    RUMP,
    STRIPE,
    TAIL,
    TAIL_END,
    THROAT,
    TIP,
    UNDER,
    VENT,
    WING,
    Area,
    Mark,
    Shape,
    Species,
)  # fmt: skip

TIT = Shape(
    size=0.92, depth=0.68, head=0.52, neck=0.26, bill=0.21, bill_depth=0.1, tail=0.95,
    tail_fork=0.1,
)  # fmt: skip
FINCH = Shape(
    size=0.98, depth=0.64, head=0.47, bill=0.29, bill_depth=0.16, tail=1.05, tail_fork=0.3,
)  # fmt: skip
THRUSH = Shape(
    size=1.06, depth=0.6, head=0.41, neck=0.36, bill=0.42, bill_depth=0.11, tail=1.1,
    tail_width=0.19, legs=0.44,
)  # fmt: skip
CROW = Shape(
    size=1.18, depth=0.56, head=0.42, neck=0.42, tilt=26, bill=0.62, bill_depth=0.19,
    bill_hook=0.1, tail=0.95, tail_width=0.22, wing=2.1, legs=0.42, leg_width=0.07,
)  # fmt: skip
PIGEON = Shape(
    size=1.14, depth=0.64, head=0.35, neck=0.5, tilt=22, bill=0.34, bill_depth=0.1, bill_hook=0.05,
    tail=0.9, tail_width=0.21, wing=2.05, wing_width=0.4, legs=0.26, leg_width=0.065,
)  # fmt: skip

_BIRDS = (
    Species(
        "Blackbird", replace(THRUSH, tail=1.3),
        base="#1e1c1e", wing="#232022", flight="#1b1819", edge="#3a3432", tail="#191718",
        bill="#f39a1b", legs="#54402f", ring="#f2a024", gloss=0.25,
        marks=(Mark(UNDER, "#2a2627", strength=0.7),),
    ),
    Species(
        "Bluetit", TIT,
        base="#8a9f4e", wing="#4c80c6", flight="#3f6cae", edge="#a9c7e8", tail="#4a7cc0",
        bill="#30343c", legs="#5a6b86",
        marks=(
            Mark(UNDER, "#f3d438"), Mark(BREAST, "#f6d93c"), Mark(VENT, "#f3ecc0", strength=0.7),
            Mark(HOOD, "#f7f7f2"), Mark(CAP, "#3f82d8"), Mark(STRIPE, "#1d2c52"),
            Mark(COLLAR, "#223a70"), Mark(BIB, "#1e2b52", strength=0.9), Mark(BAR, "#f5f6f0"),
        ),
    ),
    Species(
        "Carrion_Crow", CROW,
        base="#17181c", wing="#1a1b21", flight="#131419", edge="#34363f", tail="#141519",
        bill="#1b1c1f", legs="#1a1a1c", gloss=0.6,
        marks=(Mark(ALL, "#2a2f45", "sheen", 0.5),),
    ),
    Species(
        "Chaffinch", FINCH,
        base="#8b5d47", wing="#2b2624", flight="#2e2825", edge="#b3a06a", tail="#2b2a2c",
        bill="#7d8794", legs="#8a6a5a", tail_edge="#f4f1ea",
        marks=(
            Mark(MANTLE, "#8a4f38"), Mark(RUMP, "#8a9a52"), Mark(UNDER, "#cf8266"),
            Mark(BREAST, "#cd7757"), Mark(VENT, "#eadfd6"), Mark(BELLY, "#e2b9a4", strength=0.6),
            Mark(HOOD, "#c9714f"), Mark(replace(CAP, ry=0.95, x=-0.35), "#6f8aa8"),
            Mark(NAPE, "#6f8aa8"), Mark(Area("wing", 0.2, 0.28, 0.15, 0.34, -2, 0.5), "#f7f5ef"),
            Mark(BAR_2, "#f4efd9"), Mark(PANEL, "#c6b25a", strength=0.4),
        ),
    ),
    Species(
        "Coal_Tit", replace(TIT, size=0.86, bill=0.28, bill_depth=0.09, tail=0.85),
        base="#7f8a92", wing="#6e7880", flight="#5f6870", edge="#9aa3a4", tail="#666f78",
        bill="#1c1c1e", legs="#5b6170",
        marks=(
            Mark(UNDER, "#e0bd94"), Mark(BREAST, "#efe2cc"), Mark(FLANK, "#d6a878", strength=0.7),
            Mark(HOOD, "#15161b"),
            Mark(replace(CHEEK, x=-0.18, y=-0.3, rx=0.75, ry=0.42), "#f8f7f2"),
            Mark(BIB, "#15161b"), Mark(BAR, "#f6f4ee"), Mark(BAR_2, "#f1eee4"),
        ),
    ),
    Species(
        "Collared_Dove", replace(PIGEON, size=1.06, head=0.33, depth=0.58, tail=1.25),
        base="#cdbcae", wing="#bfae9f", flight="#8a8079", edge="#d9cdc2", tail="#b0a296",
        bill="#2f2b2c", legs="#a8434c", iris="#7c1f1a",
        marks=(
            Mark(UNDER, "#d9c6bb"), Mark(BREAST, "#dcc0ba"), Mark(MANTLE, "#b7a696", strength=0.7),
            Mark(HOOD, "#d5c6bd", strength=0.8),
            Mark(Area("head", -0.75, -0.98, 0.7, 0.13, 10, 0.3), "#f2ece6"),
            Mark(Area("head", -0.78, -1.02, 0.66, 0.1, 10, 0.3), "#1b1a1c"), Mark(TIP, "#4c4644"),
            Mark(TAIL_END, "#e9e2da", strength=0.8),
        ),
    ),
    Species(
        "Dunnock",
        replace(
            THRUSH, size=0.96, depth=0.64, head=0.45, tilt=22, bill=0.32, bill_depth=0.09,
            tail=1.05,
        ),
        base="#8d6243", wing="#8a5e3d", flight="#6e4c34", edge="#b58a62", tail="#6e5039",
        bill="#2e2522", legs="#a5705a", iris="#6d3322",
        marks=(
            Mark(MANTLE, "#3e291d", "streaks", 0.8), Mark(UNDER, "#a09d9e"),
            Mark(BREAST, "#7f8794"), Mark(BELLY, "#c2bab0", strength=0.7),
            Mark(FLANK, "#8a6344", "streaks", 0.8), Mark(HOOD, "#7e8490"),
            Mark(CHEEK, "#8a6a50", strength=0.8), Mark(CAP, "#7c5c46", strength=0.8),
            Mark(WING, "#452c1e", "streaks", 0.5), Mark(BAR, "#c9a57c", strength=0.5),
        ),
    ),
    Species(
        "Feral_Pigeon", PIGEON,
        base="#8794a6", wing="#a3aebb", flight="#7b8796", edge="#bcc6d0", tail="#6f7c8c",
        bill="#35343a", legs="#c2504e", iris="#e2721e",
        marks=(
            Mark(UNDER, "#8f9aab"), Mark(HOOD, "#5f6d82"), Mark(BREAST, "#75788f"),
            Mark(replace(THROAT, rx=0.5, ry=0.95), "#3f8f74", "sheen", 0.9),
            Mark(BAR_2, "#2a2c33"), Mark(replace(BAR_2, x=0.66, rx=0.028), "#2a2c33"),
            Mark(TIP, "#4b535f", strength=0.6), Mark(TAIL_END, "#31363f"),
            Mark(Area("head", 0.88, 0.08, 0.16, 0.13), "#f3eeea"),
        ),
    ),
    Species(
        "Goldfinch", replace(FINCH, bill=0.37, bill_depth=0.13, size=0.94),
        base="#b98d62", wing="#1a1918", flight="#1c1b1a", edge="#3a342c", tail="#1b1a1b",
        bill="#e8cfb4", legs="#c59a84",
        marks=(
            Mark(UNDER, "#f3ece2"), Mark(BREAST, "#dcb48c", strength=0.8), Mark(BELLY, "#f8f4ee"),
            Mark(RUMP, "#f4f0e8"), Mark(HOOD, "#f6f2ea"),
            Mark(Area("head", -0.45, 0.75, 0.85, 0.6, 35, 0.2), "#17161a"),
            Mark(Area("head", -0.72, -0.05, 0.24, 0.8, 12, 0.3), "#17161a"),
            Mark(Area("head", 0.62, 0.0, 0.52, 0.72, -8, 0.22), "#c81f2b"),
            Mark(Area("head", 0.68, 0.08, 0.4, 0.12, 0, 0.5), "#1d1416", strength=0.7),
            Mark(Area("wing", 0.5, -0.1, 0.1, 0.85, 10, 0.3), "#f7cf2a"),
            Mark(replace(PANEL, x=0.66, rx=0.2, ry=0.2), "#f5c926"),
            Mark(Area("wing", 0.9, 0.2, 0.03, 0.6, 0, 0.5), "#f6f2ea"),
            Mark(TAIL_END, "#f3efe6", strength=0.6),
        ),
    ),
    Species(
        "Great_Tit", replace(TIT, size=1.0, head=0.49, depth=0.65, bill=0.24, tail=1.05),
        base="#8b9a4c", wing="#6f8aa6", flight="#56708c", edge="#b4c6d4", tail="#5d7894",
        bill="#1d1d20", legs="#6a7688",
        marks=(
            Mark(UNDER, "#f0d53f"), Mark(BREAST, "#f2d842"), Mark(VENT, "#f4efe0"),
            Mark(HOOD, "#141519"),
            Mark(replace(CHEEK, x=-0.1, y=-0.28, rx=0.62, ry=0.4), "#fafaf5"),
            Mark(BIB, "#141519"), Mark(Area("body", 0.45, -1.0, 1.0, 0.16, 2, 0.5), "#17181c"),
            Mark(Area("body", 1.06, -0.5, 0.2, 0.5, 14, 0.5), "#17181c"), Mark(BAR, "#f6f6f0"),
        ),
    ),
    Species(
        "Greenfinch", replace(FINCH, size=1.02, depth=0.68, head=0.49, bill_depth=0.19),
        base="#84943c", wing="#8a8f62", flight="#5f6247", edge="#a7ad6a", tail="#4b4d3a",
        bill="#e6c2b0", legs="#c79484",
        marks=(
            Mark(UNDER, "#a9b24a"), Mark(BREAST, "#a3ae40"), Mark(VENT, "#e6e2b0"),
            Mark(MANTLE, "#76833a"), Mark(HOOD, "#93a144"), Mark(CHEEK, "#8b9464", strength=0.6),
            Mark(Area("head", 0.75, 0.15, 0.25, 0.2), "#4a5228", strength=0.6),
            Mark(replace(PANEL, ry=0.34, x=0.7), "#f4dc30"),
            Mark(Area("tail", 0.35, -0.5, 0.35, 0.7), "#efd62f"),
        ),
    ),
    Species(
        "House_Sparrow", replace(FINCH, depth=0.66, bill_depth=0.165, bill=0.28),
        base="#a98260", wing="#8f5a34", flight="#5b4232", edge="#c09a6c", tail="#5f4a3a",
        bill="#26242a", legs="#b98a72",
        marks=(
            Mark(MANTLE, "#3a271b", "streaks", 0.9), Mark(UNDER, "#bdb4aa"),
            Mark(BREAST, "#c2bab2"), Mark(RUMP, "#9a938c"), Mark(HOOD, "#d2ccc4"),
            Mark(Area("head", -0.4, 0.25, 0.85, 0.45, -28, 0.25), "#8a4424"),
            Mark(Area("head", 0.1, 0.92, 0.95, 0.45, 0, 0.2), "#7f7c7c"),
            Mark(Area("head", 0.62, 0.1, 0.4, 0.14), "#1d1a1c"),
            Mark(replace(BIB, rx=0.62, ry=0.6, y=-0.85), "#1a181b"), Mark(BAR, "#f4efe6"),
            Mark(WING, "#2c1d15", "streaks", 0.7),
        ),
    ),
    Species(
        "Jackdaw", replace(CROW, size=1.08, bill=0.42, bill_depth=0.16, head=0.42, neck=0.36),
        base="#1f2126", wing="#202228", flight="#17181d", edge="#3a3d46", tail="#191a1f",
        bill="#1b1b1e", legs="#1c1c1e", iris="#dfe3e2", gloss=0.45,
        marks=(
            Mark(UNDER, "#34363b"),
            Mark(Area("head", -0.55, -0.25, 0.95, 0.95, 0, 0.5), "#8b909a"),
            Mark(Area("head", 0.4, 0.6, 0.95, 0.72, -18, 0.3), "#191a1f"), Mark(BIB, "#1b1c21"),
            Mark(Area("head", 0.5, 0.0, 0.5, 0.5, 0, 0.5), "#1b1c21"),
            Mark(WING, "#2b3350", "sheen", 0.4),
        ),
    ),
    Species(
        "Long_Tailed_Tit",
        replace(
            TIT, size=1.16, depth=0.82, head=0.58, neck=0.16, bill=0.16, bill_depth=0.1,
            tail=2.3, tail_width=0.13, tail_fork=-0.5, wing=1.55, tilt=26,
        ),
        base="#2a2426", wing="#2c2727", flight="#262223", edge="#d9cfc8", tail="#1c1a1c",
        bill="#1a191b", legs="#3a2c28", tail_edge="#f4f1ec", ring="#c9795a",
        marks=(
            Mark(Area("body", -0.35, 0.35, 0.8, 0.4, 0, 0.6), "#c58a86"), Mark(UNDER, "#eee0da"),
            Mark(BREAST, "#f4efe9"), Mark(BELLY, "#dba9a2", strength=0.8), Mark(VENT, "#c98680"),
            Mark(HOOD, "#f6f3ee"), Mark(Area("head", -0.2, 0.55, 0.85, 0.26, -14, 0.4), "#201c1e"),
            Mark(Area("head", -0.95, 0.0, 0.25, 0.6, 30, 0.5), "#2a2425"),
            Mark(PANEL, "#ece6df", strength=0.8),
            Mark(Area("wing", 0.22, 0.6, 0.22, 0.5, 0, 0.6), "#b87873", strength=0.8),
        ),
    ),
    Species(
        "Magpie",
        replace(
            CROW, size=1.3, depth=0.56, head=0.41, bill=0.46, bill_depth=0.16, tail=2.3,
            tail_width=0.19, tail_fork=-0.6, tilt=28, wing=1.75,
        ),
        base="#141519", wing="#1a2b4e", flight="#1c3f78", edge="#3f6fb0", tail="#16333a",
        bill="#17181b", legs="#1a1a1c", gloss=0.5,
        marks=(
            Mark(UNDER, "#f7f6f3"), Mark(Area("body", 1.0, 0.0, 0.42, 1.3, 0, 0.25), "#131418"),
            Mark(HOOD, "#131418"), Mark(VENT, "#141519"),
            Mark(Area("wing", 0.22, 0.42, 0.26, 0.36, -3, 0.35), "#fafaf8"),
            Mark(Area("wing", 0.62, -0.1, 0.4, 1.2), "#2a63b5", "sheen", 0.6),
            Mark(TAIL, "#1c4f5c", "sheen", 0.7),
        ),
    ),
    Species(
        "Robin",
        replace(
            TIT, size=1.0, depth=0.76, head=0.5, neck=0.24, bill=0.27, bill_depth=0.09, tail=0.9,
            legs=0.46, leg_width=0.04,
        ),
        base="#83704f", wing="#7d6748", flight="#6a563c", edge="#a08a62", tail="#75603f",
        bill="#2b2320", legs="#8a5a44",
        marks=(
            Mark(UNDER, "#f6f2e8"), Mark(FLANK, "#cdb890", strength=0.4),
            Mark(Area("body", 0.82, -0.2, 0.78, 0.98, 0, 0.3), "#9aa3ac"),
            Mark(NAPE, "#8b9096", strength=0.5),
            Mark(Area("head", 0.45, -0.25, 0.8, 0.98, -8, 0.2), "#e37a2c"),
            Mark(Area("body", 0.88, -0.3, 0.62, 0.85, 0, 0.28), "#e27426"),
        ),
    ),
    Species(
        "Song_Thrush", THRUSH,
        base="#8f7350", wing="#8a6d4a", flight="#78603f", edge="#b3956a", tail="#7d6344",
        bill="#5c4630", legs="#c99a82", ring="#dcc8a0",
        marks=(
            Mark(UNDER, "#f3ead6"), Mark(BREAST, "#e6cd9c"), Mark(CHEEK, "#b59a72", strength=0.8),
            Mark(BIB, "#f1e4c6"),
            Mark(Area("body", 0.35, -0.55, 1.15, 0.72, 5, 0.2), "#33241a", "spots"),
            Mark(BAR, "#d3b27c", strength=0.6),
        ),
    ),
    Species(
        "Starling",
        replace(THRUSH, depth=0.62, tail=0.62, wing=1.9, tilt=34, bill=0.5, bill_depth=0.1),
        base="#1e1c26", wing="#2a2528", flight="#2b2421", edge="#8a6a4a", tail="#2a2422",
        bill="#f0c23c", legs="#c4705c", gloss=0.6,
        marks=(
            Mark(ALL, "#2f8f63", "sheen", 0.75),
            Mark(Area("body", 0.7, 0.0, 0.7, 1.2), "#6a3f9c", "sheen", 0.7),
            Mark(ALL, "#f3e8cf", "speckles", 0.85), Mark(WING, "#e8d2a6", "speckles", 0.6),
        ),
    ),
    Species(
        "Wood_Pigeon", replace(PIGEON, size=1.2, depth=0.68, head=0.33),
        base="#8b96a4", wing="#98a1ab", flight="#6f7883", edge="#c3cad0", tail="#5d6670",
        bill="#e8a23c", legs="#b04a55", iris="#efe6a8",
        marks=(
            Mark(UNDER, "#c3b4b8"), Mark(BREAST, "#c08f98"), Mark(BELLY, "#d3cccd", strength=0.7),
            Mark(HOOD, "#7f8ea2"),
            Mark(Area("head", -0.35, -0.85, 0.8, 0.42, 20), "#3f9a7c", "sheen", 0.8),
            Mark(Area("head", -0.35, -1.2, 0.62, 0.32, 30, 0.3), "#fdfcfa"),
            Mark(Area("wing", 0.42, -0.95, 0.34, 0.3, 4, 0.4), "#fafafa"),
            Mark(TIP, "#3d434b", strength=0.8), Mark(TAIL_END, "#2b2f36"),
        ),
    ),
    Species(
        "Wren",
        replace(
            TIT, size=0.86, depth=0.76, head=0.5, neck=0.2, tilt=18, bill=0.36, bill_depth=0.07,
            bill_hook=0.04, tail=0.62, tail_width=0.2, tail_lift=78, wing=1.5, legs=0.36,
        ),
        base="#8f6038", wing="#8c5a32", flight="#7a4d2b", edge="#a87a4c", tail="#8a5930",
        bill="#4a382a", legs="#a97a5c",
        marks=(
            Mark(UNDER, "#c6a47c"), Mark(BREAST, "#cdb08a"), Mark(FLANK, "#5d3b20", "bars", 0.6),
            Mark(MANTLE, "#53341c", "bars", 0.5), Mark(WING, "#3f2713", "bars", 0.8),
            Mark(TAIL, "#3f2713", "bars", 0.8), Mark(BROW, "#e8d6b4"),
            Mark(STRIPE, "#6a452a", strength=0.7),
        ),
    ),
)  # fmt: skip

SPECIES: dict[str, Species] = {bird.name: bird for bird in _BIRDS}
