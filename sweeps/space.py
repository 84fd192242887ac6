"""What is searched in each family, and what `--fix` leaves of it."""

from typing import Any, NamedTuple

from optuna.distributions import CategoricalDistribution as Choice
from optuna.distributions import FloatDistribution as Floats
from optuna.distributions import IntDistribution as Ints

from colorization.config import VARIANTS, Config, changed, tunable_fields

OWN_FLAGS = ("epochs", "seed")  # the same for all trials, or they could not be compared


class Part(NamedTuple):
    """A field that is searched: what Optuna draws it from, and why."""

    drawn: Choice | Floats | Ints
    reason: str

    def __str__(self) -> str:
        if isinstance(self.drawn, Choice):
            return " or ".join(map(str, self.drawn.choices))
        text = f"{self.drawn.low:g} to {self.drawn.high:g}" + ", log" * self.drawn.log
        return text + (f", step {self.drawn.step}" if self.drawn.step not in (None, 1) else "")


def of_family(family: str) -> dict[str, Config]:
    """Return the variants of a family: name to config."""
    return {name: config for name, config in VARIANTS.items() if config.family == family}


def searched_variants(names: Any) -> Choice:
    """Return the choice among the variants that are searched."""
    return Choice([name for name in names if VARIANTS[name].searched])


_RATE = "a factor of ten or so to either side of the default; what works spans orders of magnitude"

SPACES: dict[str, dict[str, Part]] = {
    "naive": {
        "variant": Part(
            searched_variants(of_family("naive")),
            "with batch normalization or without, or a pretrained encoder; naive_basic is "
            "naive_dropout with dropout 0",
        ),
        "filters": Part(
            Ints(16, 48, step=16), "what two cores train in minutes; pin it higher on a GPU"
        ),
        "depth": Part(
            Ints(2, 5), "a bottleneck of 32 to 4 pixels; below 4 no garden is left to see"
        ),
        "dropout": Part(
            Floats(0.0, 0.5), "none at all, up to what still lets a small network learn"
        ),
        "learning_rate": Part(Floats(1e-4, 1e-2, log=True), _RATE),
    },
    "pix2pix": {
        "variant": Part(
            searched_variants(of_family("pix2pix")),
            "the paper's generator, or one around a pretrained encoder",
        ),
        "filters": Part(
            Ints(8, 32, step=8), "what two cores train in minutes; pin it to 64 on a GPU"
        ),
        "depth": Part(
            Ints(4, 7),
            "7 reach the paper's one pixel; fewer are quicker; an encoder has 5",
        ),
        "dropout": Part(Floats(0.0, 0.7), "around the paper's 0.5, and none at all"),
        "generator_only_learning_rate": Part(Floats(1e-4, 1e-2, log=True), _RATE),
        "generator_learning_rate": Part(Floats(5e-5, 2e-3, log=True), _RATE),
        "discriminator_learning_rate": Part(Floats(2e-5, 2e-3, log=True), _RATE),
        "l1_weight": Part(
            Floats(2.0, 500.0, log=True),
            "from colorful to accurate: the paper's 100, or 17 around an encoder",
        ),
    },
}


def parse_fix(family: str, text: str) -> dict[str, Any]:
    """Return what `--fix` pins: field to value, of the field's type.

    `text` is such as `variant=naive_deep,filters=32`: any field of a config but `OWN_FLAGS`.

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
    config = changed(variants[variant], texts)  # checks and converts
    if set(SPACES[family]) <= set(names):
        raise ValueError(
            f"`fix` leaves nothing to search. Expected fewer fields. Received: fix={text!r}"
        )
    return {name: getattr(config, name) for name in names}
