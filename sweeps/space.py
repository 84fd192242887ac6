"""What is searched in each family, and what `--fix` leaves of it."""

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from colorization.config import VARIANTS, Config, tunable_fields

if TYPE_CHECKING:
    from optuna import Trial

OWN_FLAGS = ("epochs", "seed")  # the same for all trials, or they could not be compared


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included; whole ones if the bounds are."""

    low: float
    high: float
    reason: str
    log: bool = False
    step: int | None = None

    def __str__(self) -> str:
        log, step = ", log" if self.log else "", f", step {self.step}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{log}{step}"

    def draw(self, trial: "Trial", name: str) -> Any:
        """Let an Optuna trial choose a number."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, step=self.step or 1)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Choice(NamedTuple):
    """One of several names."""

    options: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return " or ".join(self.options)

    def draw(self, trial: "Trial", name: str) -> Any:
        """Let an Optuna trial choose a name."""
        return trial.suggest_categorical(name, self.options)


def of_family(family: str) -> dict[str, Config]:
    """Return the variants of a family: name to config."""
    return {name: config for name, config in VARIANTS.items() if config.family == family}


def _searched_variants(family: str) -> tuple[str, ...]:
    return tuple(name for name, config in of_family(family).items() if config.searched)


_RATE = "a factor of ten or so to either side of the default; what works spans orders of magnitude"

SPACES: dict[str, dict[str, Range | Choice]] = {
    "naive": {
        "variant": Choice(
            _searched_variants("naive"),
            "with batch normalization or without, or a pretrained encoder; naive_basic is "
            "naive_dropout with dropout 0",
        ),
        "filters": Range(
            16, 48, "what two cores train in minutes; pin it higher on a GPU", step=16
        ),
        "depth": Range(2, 5, "a bottleneck of 32 to 4 pixels; below 4 no garden is left to see"),
        "dropout": Range(0.0, 0.5, "none at all, up to what still lets a small network learn"),
        "learning_rate": Range(1e-4, 1e-2, _RATE, log=True),
    },
    "pix2pix": {
        "variant": Choice(
            _searched_variants("pix2pix"),
            "the paper's generator, or one around a pretrained encoder",
        ),
        "filters": Range(8, 32, "what two cores train in minutes; pin it to 64 on a GPU", step=8),
        "depth": Range(
            4, 7, "7 reach the paper's bottleneck of one pixel; fewer are quicker; an encoder has 5"
        ),
        "dropout": Range(0.0, 0.7, "around the paper's 0.5, and none at all"),
        "generator_only_learning_rate": Range(1e-4, 1e-2, _RATE, log=True),
        "generator_learning_rate": Range(5e-5, 2e-3, _RATE, log=True),
        "discriminator_learning_rate": Range(2e-5, 2e-3, _RATE, log=True),
        "l1_weight": Range(
            2.0,
            500.0,
            "from colorful to accurate: the paper's 100, or 17 around an encoder",
            log=True,
        ),
    },
}


def parse_fix(family: str, text: str) -> dict[str, Any]:
    """Return what `--fix` pins: field to value, of the field's type.

    Args:
        family: `naive` or `pix2pix`.
        text: `variant=naive_deep,filters=32`; any field of a config but `epochs` and `seed`.

    Raises:
        ValueError: the text cannot be read, a name is no field of the family, or a value is
            outside its range.
    """
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    texts: dict[str, Any] = {name.strip(): value.strip() for name, _, value in pairs}
    if len(texts) < len(pairs) or not all(sign for _, sign, _ in pairs):
        raise ValueError(
            f"`fix` cannot be read. Expected different names with a value each, such as "
            f"`filters=32,depth=3`. Received: fix={text!r}"
        )
    names, variants = list(texts), of_family(family)
    variant = texts.pop("variant", next(iter(variants)))
    if variant not in variants:
        raise ValueError(
            f"Unknown variant of the family {family}. Expected {' or '.join(variants)}. "
            f"Received: variant={variant!r}"
        )
    known = [spec.name for spec in tunable_fields(variants[variant]) if spec.name not in OWN_FLAGS]
    for name in texts:
        if name not in known:
            raise ValueError(
                f"`fix` pins no such field. Expected variant, {', '.join(known)}. "
                f"Received: {name!r}"
            )
    config = dataclasses.replace(variants[variant], **texts)  # checks and converts
    if set(SPACES[family]) <= set(names):
        raise ValueError(
            f"`fix` leaves nothing to search. Expected fewer fields. Received: fix={text!r}"
        )
    return {name: getattr(config, name) for name in names}
