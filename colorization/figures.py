"""How results are shown: a Markdown table, curves, and sheets of pictures."""

import functools
import importlib.resources
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from colorization import color
from colorization.paths import printable

INK = "#30343a"
GAP = 4  # pixels between the pictures of a sheet
SHEET_ROWS = 8
FONTS = ("manimgx_fonts", "paperang_p2_fonts_cjk")  # Noto, for most scripts, and WenQuanYi
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


def sheets(*columns: np.ndarray) -> dict[str, np.ndarray]:
    """Return square uint8 pictures of aligned batches, uint8 (N, S, S, 3), one for each column.

    Each has as many rows as columns, and is named by the numbers of its rows, such as `1-3`. The
    end of the last one may stay white.
    """
    edges = ((0, 0), (0, GAP), (0, GAP), (0, 0))
    rows = np.concatenate([np.pad(each, edges, constant_values=255) for each in columns], axis=2)
    per_sheet, found = len(columns), {}
    for start in range(0, len(rows), per_sheet):
        part = rows[start : start + per_sheet]
        sheet = np.full((per_sheet, *rows.shape[1:]), 255, "uint8")
        sheet[: len(part)] = part
        whole = sheet.reshape(-1, *rows.shape[2:])[:-GAP, :-GAP]
        found[f"{start + 1}-{start + len(part)}"] = whole
    return found


def loss_curves(
    epochs: Sequence[Mapping[str, float]], best_epoch: int, begins: Mapping[str, int]
) -> Figure:
    """Draw every loss, training solid and validation dashed, the kept epoch and phases marked.

    Args:
        epochs: the metrics of each; a loss is called `loss/...`, and `loss/..._val` of validation.
        best_epoch: counted from 0.
        begins: a phase's name to its first epoch, counted from 0.
    """
    known = {name for each in epochs for name in each if name.startswith("loss/")}
    names = sorted(name for name in known if not name.endswith("_val"))
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    steps = np.arange(1, len(epochs) + 1)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        training, validation = (
            [each.get(key, np.nan) for each in epochs] for key in (name, f"{name}_val")
        )
        axes.plot(steps, training, color="tab:blue", label="training")
        axes.plot(steps, validation, "--", color="tab:orange", label="validation")
        axes.axvline(best_epoch + 1, color=INK, linewidth=0.8, linestyle=":", label="kept")
        axes.set_xlim(0.5, len(epochs) + 0.5)
        _style(axes, name.removeprefix("loss/").replace("_", " "))
        for phase, first in begins.items():
            if 0 < first < len(epochs):
                axes.axvline(first + 0.5, color=INK, linewidth=0.8)
                place = {"xycoords": ("data", "axes fraction"), "rotation": 90, "va": "top"}
                axes.annotate(f" {phase}", (first + 0.5, 1), **place, fontsize=8, color=INK)
    axes.legend(frameon=False)
    return figure


def convergence(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw the curves of several trainings over each other, a panel per quantity.

    They are values, one an epoch, by label of the training and panel title. Every training is in
    the first panel; it may be missing in others.
    """
    titles = list(dict.fromkeys(title for panels in curves.values() for title in panels))
    figure = Figure(figsize=(4.2 * len(titles), 4.2), layout="constrained")
    for axes, title in zip(np.atleast_1d(figure.subplots(1, len(titles))), titles, strict=True):
        for label, panels in curves.items():
            values = panels.get(title, [])  # an empty curve uses up its color, too
            epochs = np.arange(1, len(values) + 1)
            axes.plot(epochs, values, marker=".", label=label)
        _style(axes, title)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _style(axes: Axes, title: str) -> None:
    axes.set(title=title, xlabel="epoch")
    axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


@functools.cache
def _families() -> list[str]:
    """Make fonts for all scripts known to matplotlib; return their names, the usual one first."""
    folders = [str(importlib.resources.files(package)) for package in FONTS]
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
