"""Curves and strips of pictures: arrays in, a matplotlib Figure or one uint8 picture out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#30343a"
GAP = 4  # pixels between the pictures of a strip


def strip(*columns: np.ndarray, per_row: int = 2) -> np.ndarray:
    """Return one uint8 picture of aligned batches: groups of a | b | c, `per_row` in a line.

    Args:
        *columns: batches of N pictures, uint8 (N, S, S, 3).
        per_row: groups in a line; the end of the last line may stay white.
    """
    groups = np.concatenate([_framed(column) for column in columns], axis=2)
    lines = -(-len(groups) // per_row)
    missing = np.full((lines * per_row - len(groups), *groups.shape[1:]), 255, "uint8")
    groups = np.concatenate([groups, missing])
    groups = np.pad(groups, ((0, 0), (0, 0), (0, 2 * GAP), (0, 0)), constant_values=255)
    count, height, width, planes = groups.shape
    grid = groups.reshape(lines, per_row, height, width, planes).swapaxes(1, 2)
    return grid.reshape(lines * height, per_row * width, planes)


def loss_curves(history: Mapping[str, Sequence[float]], best_epoch: int) -> Figure:
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
        _style(axes, name.replace("_", " "))
    axes.legend(frameon=False)
    return figure


def convergence(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw the curves of several trainings over each other, a panel per quantity.

    Args:
        curves: label of a training to panel title to values, one an epoch. Every training is in
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


def _framed(images: np.ndarray) -> np.ndarray:
    edges = ((0, 0), (0, GAP), (0, GAP), (0, 0))
    return np.pad(np.asarray(images), edges, constant_values=255)
