"""How results are shown: one Markdown table, one sheet of pictures."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from colorization import color
from colorization.figures import INK

SHEET_ROWS = 8


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; short rows are filled with empty cells."""
    lines = [[*row, *[""] * (len(head) - len(row))] for row in (head, *rows)]
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([first, "|---" * len(head) + "|", *others])


def spread(order: Sequence[int] | np.ndarray, count: int = SHEET_ROWS) -> np.ndarray:
    """Return up to `count` entries, evenly spaced; the first and the last are among them."""
    order = np.asarray(order)
    return order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)]


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
