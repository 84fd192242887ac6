"""The outcome of an evaluation in words."""

from collections import defaultdict
from collections.abc import Mapping

import pandas as pd

from colorization.registry.candidate import KINDS


def verdict(means: pd.DataFrame, trained_on: Mapping[str, str], kind: str) -> str:
    """Say whether models are better than plain gray, by CIEDE2000, and what they were trained on.

    Args:
        means: a row for each model, with `model` and `delta_e`; one is `gray`.
        trained_on: label of each model in question -> `candidate.trained_on`.
        kind: of the scored pictures, see `sources.Source`.
    """
    scores = {row.model: f"{row.delta_e:.2f}" for row in means.itertuples()}
    outcomes, origins = defaultdict(list), defaultdict(list)
    for label, pictures in trained_on.items():
        outcomes[_compare(float(scores[label]), float(scores["gray"]))].append(label)
        if pictures:  # `Pictures.summary` names the others
            origins[f"trained on {pictures}"].append(label)
    total = len(trained_on)
    clauses = _clauses(outcomes, ("is", "are"), total, "both" if total == 2 else "all")
    figures = ", ".join(f"{label} {scores[label]}" for label in [*trained_on, "gray"])
    text = f"On these {KINDS[kind]} {clauses} (CIEDE2000: {figures})."
    return f"{text} {_clauses(origins, ('was', 'were'), total, 'They')}." if origins else text


def _compare(score: float, gray: float) -> str:
    if score == gray:
        return "as good as plain gray"
    return "better than plain gray" if score < gray else "worse than plain gray"


def _clauses(
    groups: Mapping[str, list[str]], verbs: tuple[str, str], total: int, everyone: str
) -> str:
    """Return a clause for each group of labels; `everyone` stands for a group of all."""
    clauses = []
    for complement, labels in groups.items():
        *first, last = labels
        subject = f"{', '.join(first)} and {last}" if first else last
        subject = everyone if len(labels) == total > 1 else subject
        clauses.append(f"{subject} {verbs[len(labels) > 1]} {complement}")
    return ", ".join(clauses)
