"""What is searched in each family, what `--fix` leaves of it, and how a trial becomes a config."""

import dataclasses
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution as Choice
from optuna.distributions import FloatDistribution as Floats
from optuna.distributions import IntDistribution as Ints

from colorization.config import VARIANTS, Config, changed, deepest, tunable_fields, with_size

OBJECTIVES: dict[str, Literal["minimize", "maximize"]] = {
    "color_error": "minimize",
    "delta_e": "minimize",
    "psnr": "maximize",
    "ssim": "maximize",
}


def of_family(family: str) -> dict[str, Config]:
    """Return the variants of a family: name to config."""
    return {name: config for name, config in VARIANTS.items() if config.family == family}


def searched_variants(names: Collection[str]) -> Choice:
    """Return the choice among the variants that are searched."""
    return Choice([name for name in names if VARIANTS[name].searched])


# Of a rate: ten times less or more than the default, since what works spans orders of magnitude.
SPACES: dict[str, dict[str, BaseDistribution]] = {
    "naive": {
        "variant": searched_variants(of_family("naive")),  # naive_basic has dropout 0
        "filters": Ints(16, 48, step=16),  # minutes on two cores; pin it higher on a GPU
        "depth": Ints(2, 5),  # 32 to 4 pixels are left; below 4 there is no garden to see
        "dropout": Floats(0.0, 0.5),  # none, up to what still lets a small network learn
        "learning_rate": Floats(1e-4, 1e-2, log=True),
    },
    "pix2pix": {
        "variant": searched_variants(of_family("pix2pix")),  # with or without an encoder
        "filters": Ints(8, 32, step=8),  # minutes on two cores; pin it to 64 on a GPU
        "depth": Ints(4, 7),  # 7 reach the paper's one pixel; an encoder has 5
        "dropout": Floats(0.0, 0.7),  # around the paper's 0.5, and none at all
        "generator_only_learning_rate": Floats(1e-4, 1e-2, log=True),
        "generator_learning_rate": Floats(5e-5, 2e-3, log=True),
        "discriminator_learning_rate": Floats(2e-5, 2e-3, log=True),
        "l1_weight": Floats(2.0, 500.0, log=True),  # 100 in the paper, 17 with an encoder
    },
}


def parse_fix(family: str, text: str) -> dict[str, Any]:
    """Return what `--fix` pins: field to value, of the field's type.

    `text` is such as `variant=naive_deep,filters=32`. Epochs and seed are flags of their own.

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
    variants = of_family(family)
    variant = texts.get("variant", next(iter(variants)))
    if variant not in variants:
        raise ValueError(
            f"Unknown variant of the family {family}. Expected {' or '.join(variants)}. "
            f"Received: variant={variant!r}"
        )
    fields = [field.name for field in tunable_fields(variants[variant])]
    known = ["variant", *(name for name in fields if name not in ("epochs", "seed"))]
    for name in texts:
        if name not in known:
            raise ValueError(
                f"`fix` pins no such field. Expected {', '.join(known)}. Received: {name!r}"
            )
    if set(SPACES[family]) <= set(texts):
        raise ValueError(
            f"`fix` leaves nothing to search. Expected fewer fields. Received: fix={text!r}"
        )
    fitting = with_size(variants[variant], texts.get("size", Config.size))
    config = changed(fitting, texts)  # checks and converts
    return {name: getattr(config, name) for name in texts}


@dataclass(frozen=True)
class Spec:
    """What makes the trials of a study comparable."""

    family: str
    objective: str  # a key of `OBJECTIVES`, measured on the validation pictures
    fix: dict[str, Any]  # of `parse_fix`
    epochs: int  # of a trial that is not pruned
    seed: int  # of the sampler, and of every training
    digest: str = ""  # of the pictures
    variants: tuple[str, ...] = ()  # that the study knows; by default all that a trial can draw

    def __post_init__(self) -> None:
        """Fill in the default of `variants`."""
        names, pinned = of_family(self.family), self.fix.get("variant")
        known = (pinned,) if pinned else tuple(name for name in names if _drawn_as(name, names))
        object.__setattr__(self, "variants", self.variants or known)

    @property
    def identity(self) -> dict[str, Any]:
        """What a study compares when it goes on: every field, and a digest of every variant."""
        variants = dict.fromkeys(self.variants, "none")  # so is one that is gone by now
        for name in VARIANTS.keys() & variants:
            text = json.dumps(dataclasses.asdict(VARIANTS[name]))
            variants[name] = hashlib.sha256(text.encode()).hexdigest()[:8]
        return dataclasses.asdict(self) | {"variants": variants}

    @property
    def searched(self) -> dict[str, BaseDistribution]:
        """What is left to search, which a trial draws, see `Study.ask`: by field."""
        drawn = {name: each for name, each in SPACES[self.family].items() if name not in self.fix}
        if "variant" in drawn:
            drawn["variant"] = searched_variants(self.variants)
        return drawn

    @property
    def full_epochs(self) -> int:
        """How many epochs make a full training: those of the longest preset."""
        return max(VARIANTS[name].epochs for name in self.presets())

    def presets(self) -> dict[str, Config]:
        """Return the variants with their own settings, as far as `fix` allows: name to config.

        Where `fix` makes two of them the same network, the first is returned.
        """
        presets: dict[tuple, Config] = {}
        for name in self.variants:
            config = self._with(VARIANTS[name], {})
            presets.setdefault(network(config), config)
        return {config.variant: config for config in presets.values()}

    def config_of(self, params: dict[str, Any]) -> Config:
        """Return the parameters of a trial, of all searched fields, as a config.

        That of a preset has its name: a variant that is not searched is drawn as another one.
        """
        config = self._with(VARIANTS[(params | self.fix)["variant"]], params)
        presets = {network(each): each for each in self.presets().values()}
        return presets.get(network(config), config)

    def params_of(self, config: Config) -> dict[str, Any]:
        """Return a config as the parameters of a trial.

        A variant that is not searched is drawn as one that differs only in searched fields.
        """
        fields = dataclasses.asdict(config)
        fields["variant"] = _drawn_as(config.variant, self.variants)
        return {name: fields[name] for name in self.searched}

    def _with(self, config: Config, params: dict[str, Any]) -> Config:
        """Change fields of a config. The depth is cut to what its network can have."""
        fields = params | self.fix | {"epochs": self.epochs, "seed": self.seed}
        most = config.__dataclass_fields__["depth"].metadata["high"]
        most = min(most, deepest(fields.get("size", config.size)))
        fields["depth"] = min(fields.get("depth", config.depth), most)
        return dataclasses.replace(config, **fields | {"variant": config.variant})


def network(config: Config, ignored: Collection[str] = ()) -> tuple:
    """Return what makes a config another network than others, but for the `ignored` fields."""
    ignored = {"variant", "compared", "searched", *ignored}
    fields = dataclasses.asdict(config).items()
    return type(config), *((name, value) for name, value in fields if name not in ignored)


def _drawn_as(variant: str, names: Collection[str]) -> str:
    """Return which searched variant a trial chooses to draw this one's network, or "" if none."""
    space = SPACES[VARIANTS[variant].family]
    own = network(VARIANTS[variant], space)
    drawn = (name for name in (variant, *names) if VARIANTS[name].searched)
    return next((name for name in drawn if network(VARIANTS[name], space) == own), "")
