"""How results are shown: one Markdown table, one sheet of pictures."""

import functools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure

from colorization import color
from colorization.figures import INK
from colorization.paths import printable

SHEET_ROWS = 8
FONTS = (
    "manimgx_fonts",
    "paperang_p2_fonts_cjk",
)  # packages: Noto, for most scripts, and WenQuanYi
CAPTION_WIDTH, CAPTION_LINES = 26, 3


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; short rows are filled with empty cells."""
    lines = [[*row, *[""] * (len(head) - len(row))] for row in (head, *rows)]
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([first, "|---" * len(head) + "|", *others])


def spread(order: Sequence[int] | np.ndarray, count: int = SHEET_ROWS) -> np.ndarray:
    """Return up to `count` entries, evenly spaced; the first and the last are among them."""
    order = np.asarray(order)
    return order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)]


def caption(name: str) -> str:
    """Return the name of a file or a folder as it stands beside a picture, in short lines."""
    lines = textwrap.wrap(
        printable(name.replace("_", " ")), CAPTION_WIDTH, max_lines=CAPTION_LINES, placeholder="..."
    )
    return "\n".join(lines)


@functools.cache
def _families() -> list[str]:
    """Make fonts for all scripts known to matplotlib; return their names, the usual one first."""
    folders = [
        folder
        for spec in map(find_spec, FONTS)
        for folder in (spec.submodule_search_locations if spec else None) or ()
    ]
    names = [matplotlib.rcParamsDefault["font.sans-serif"][0]]
    for file in sorted(font_manager.findSystemFonts(folders)):
        font_manager.fontManager.addfont(file)
        names.append(font_manager.get_font(file).family_name)
    return list(dict.fromkeys(names))


def sheet(
    pictures: np.ndarray,
    colored: Mapping[str, np.ndarray],
    captions: Sequence[str],
    title: str,
    truth: bool = True,
) -> Figure:
    """Draw a row per picture: gray, what each model makes of it, and the real one.

    Args:
        pictures: uint8 RGB (N, S, S, 3).
        colored: column title to predicted pictures of the same shape.
        captions: N texts, one beside each row.
        title: text above.
        truth: whether the pictures have real colors to show.
    """
    # Names are no mathematics, whatever dollar signs are in them.
    with matplotlib.rc_context({"text.parse_math": False, "font.family": _families()}):
        return _sheet(pictures, colored, captions, title, truth)


def _sheet(
    pictures: np.ndarray,
    colored: Mapping[str, np.ndarray],
    captions: Sequence[str],
    title: str,
    truth: bool,
) -> Figure:
    columns = {"gray": color.to_uint8(color.gray_input(pictures, 3)), **colored}
    if truth:
        columns["real"] = pictures
    size = (1.9 * len(columns) + 2.2, 1.9 * len(captions) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, color=INK)
    grid = figure.subplots(len(captions), len(columns), squeeze=False)
    for column, (name, images) in enumerate(columns.items()):
        grid[0, column].set_title(name, fontsize=11, color=INK)
        for row, image in enumerate(images):
            grid[row, column].imshow(image, interpolation="lanczos")
            grid[row, column].axis("off")
    for axes, caption in zip(grid[:, -1], captions, strict=True):
        place = {"xy": (1.05, 0.5), "xycoords": "axes fraction", "va": "center"}
        axes.annotate(caption, **place, fontsize=9, color=INK, annotation_clip=False)
    return figure
