"""Loss curves and side-by-side sheets: arrays in, a matplotlib Figure or one uint8 picture out."""

import numpy as np
from matplotlib.figure import Figure

INK = "#30343a"
GAP = 4  # pixels between the pictures of a strip


def strip(*columns, per_row=2):
    """Return one uint8 picture of aligned batches: groups of a | b | c, `per_row` in a line.

    Args:
        *columns: batches of N pictures, uint8 (N, S, S, 3).
        per_row: how many groups stand in a line; N is a multiple of it, or the rest stays white.
    """
    groups = np.concatenate([_framed(column) for column in columns], axis=2)
    lines = -(-len(groups) // per_row)
    missing = np.full((lines * per_row - len(groups), *groups.shape[1:]), 255, "uint8")
    groups = np.concatenate([groups, missing])
    groups = np.pad(groups, ((0, 0), (0, 0), (0, 2 * GAP), (0, 0)), constant_values=255)
    count, height, width, planes = groups.shape
    grid = groups.reshape(lines, per_row, height, width, planes).swapaxes(1, 2)
    return grid.reshape(lines * height, per_row * width, planes)


def loss_curves(history, best_epoch):
    """Draw every loss over the epochs, training solid and validation dashed, the kept epoch marked.

    Args:
        history: metric name to its values, one an epoch; `val_` marks validation.
        best_epoch: counted from 0.
    """
    names = [name for name in history if name.endswith("loss") and not name.startswith("val_")]
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        epochs = np.arange(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], color="tab:blue", label="training")
        axes.plot(epochs, history[f"val_{name}"], "--", color="tab:orange", label="validation")
        axes.axvline(best_epoch + 1, color=INK, linewidth=0.8, linestyle=":", label="kept")
        axes.set(title=name.replace("_", " "), xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def convergence(curves):
    """Draw the curves of several trainings over each other, a panel per quantity.

    Args:
        curves: training's label to panel title to its values, one an epoch; all are in the first
            panel, not all in every other.
    """
    titles = list(dict.fromkeys(title for panels in curves.values() for title in panels))
    figure = Figure(figsize=(4.2 * len(titles), 4.2), layout="constrained")
    for axes, title in zip(np.atleast_1d(figure.subplots(1, len(titles))), titles, strict=True):
        for label, panels in curves.items():
            values = panels.get(title, [])  # an empty curve as well takes its turn of the colors
            epochs = np.arange(1, len(values) + 1)
            axes.plot(epochs, values, marker=".", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def sheet(columns, captions, title):
    """Draw a row per picture and a column per kind of picture.

    Args:
        columns: column title to its batch of N pictures, uint8 (N, S, S, 3).
        captions: N texts, one beside each row.
        title: text above.
    """
    rows = len(captions)
    figure = Figure(figsize=(1.9 * len(columns) + 2.2, 1.9 * rows + 0.6), layout="constrained")
    figure.suptitle(title, color=INK)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for column, (name, images) in enumerate(columns.items()):
        grid[0, column].set_title(name, fontsize=11, color=INK)
        for row, image in enumerate(images):
            grid[row, column].imshow(image, interpolation="lanczos")
            grid[row, column].axis("off")
    for row, caption in enumerate(captions):
        axes = grid[row, -1]
        place = {"xy": (1.05, 0.5), "xycoords": "axes fraction", "va": "center"}
        axes.annotate(caption, **place, fontsize=9, color=INK, annotation_clip=False)
    return figure


def _framed(images):
    edges = ((0, 0), (0, GAP), (0, GAP), (0, 0))
    return np.pad(np.asarray(images), edges, constant_values=255)
