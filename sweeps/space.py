"""What is searched in each family, and how a trial becomes a config."""

import dataclasses
import hashlib
import json
from typing import NamedTuple

from colorization.config import VARIANTS, tunable_fields

OWN_FLAGS = ("epochs", "seed")  # the same for all trials, or they could not be compared


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included; whole ones if the bounds are."""

    low: float
    high: float
    reason: str
    log: bool = False
    step: int | None = None

    def draw(self, trial, name):
        """Let an Optuna trial choose a number."""
        if isinstance(self.low, int):
            return trial.suggest_int(name, self.low, self.high, step=self.step or 1)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Choice(NamedTuple):
    """One of several names."""

    options: tuple
    reason: str

    def draw(self, trial, name):
        """Let an Optuna trial choose a name."""
        return trial.suggest_categorical(name, self.options)


def _searched_variants(family):
    return tuple(name for name, each in VARIANTS.items() if each.family == family and each.searched)


_RATE = "a factor of ten or so to either side of the default; what works spans orders of magnitude"

SPACES = {
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
            2.0, 500.0, "from lively to exact: the paper's 100, or 17 around an encoder", log=True
        ),
    },
}


def parse_fix(family, text):
    """Return what `--fix` pins: field to value, of the field's type.

    Args:
        family: `naive` or `pix2pix`.
        text: `variant=naive_deep,filters=32`; any field of a config but `epochs` and `seed`.

    Raises:
        ValueError: it cannot be read, names no field of the family, or gives a value that its
            config refuses.
    """
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    texts = {name.strip(): value.strip() for name, _, value in pairs}
    if len(texts) < len(pairs) or not all(sign for _, sign, _ in pairs):
        raise ValueError(
            f"`fix` cannot be read. Expected different names with a value each, such as "
            f"`filters=32,depth=3`. Received: fix={text!r}"
        )
    variants = of_family(family)
    variant = texts.pop("variant", next(iter(variants)))
    if variant not in variants:
        raise ValueError(
            f"Unknown variant of the family {family}. Expected {' or '.join(variants)}. "
            f"Received: variant={variant!r}"
        )
    known = [field.name for field in tunable_fields(variants[variant])]
    for name in texts:
        if name not in known or name in OWN_FLAGS:
            fields = ", ".join(field for field in ["variant", *known] if field not in OWN_FLAGS)
            raise ValueError(f"`fix` pins no such field. Expected {fields}. Received: {name!r}")
    config = dataclasses.replace(variants[variant], **texts)  # checks and converts
    fix = {name.strip(): getattr(config, name.strip()) for name, _, _ in pairs}
    if not searched(family, fix):
        raise ValueError(
            f"`fix` leaves nothing to search. Expected fewer fields. Received: fix={text!r}"
        )
    return fix


def of_family(family):
    """Return the hand-made variants of a family: name to config."""
    return {name: config for name, config in VARIANTS.items() if config.family == family}


def recipe(family):
    """Return what stands for all that is not searched: a digest of the hand-made variants."""
    configs = [dataclasses.asdict(config) for config in of_family(family).values()]
    return hashlib.sha256(json.dumps(configs).encode()).hexdigest()[:8]


def handmade(family, fix, **flags):
    """Return the hand-made variants as far as `fix` lets them: name to config.

    Of those that it makes the same network, the first.

    Args:
        family: `naive` or `pix2pix`.
        fix: of `parse_fix`.
        **flags: `epochs` and `seed`.
    """
    names, networks = {}, set()
    for name, config in of_family(family).items():
        if fix.get("variant", name) != name:
            continue
        config = _replace(config, **fix, **flags)
        network = dataclasses.replace(config, variant=searched_as(config), searched=True)
        if network not in networks:
            names[name] = config
            networks.add(network)
    return names


def searched_as(config):
    """Return the variant that a sweep chooses to draw this config's network.

    Its own, if it is searched; otherwise one that differs in nothing but what is searched.
    """
    family = of_family(config.family)
    preset, drawn = family[config.variant], set(SPACES[config.family]) - {"variant"}
    fields = {name: getattr(preset, name) for name in {"variant", "searched", *drawn}}
    for name, other in family.items():
        if other.searched and (name == config.variant or _is_same(other, preset, fields)):
            return name
    raise ValueError(
        f"A sweep cannot draw {config.variant}. Expected a searched variant that differs only in "
        f"{', '.join(sorted(drawn))}: give it searched=True. Received: searched=False"
    )


def _is_same(other, preset, fields):
    return type(other) is type(preset) and dataclasses.replace(other, **fields) == preset


def full_epochs(family, fix):
    """Return how many epochs make a full training: those of the longest hand-made variant."""
    return max(config.epochs for config in handmade(family, fix).values())


def searched(family, fix):
    """Return what is left to search: field to `Range` or `Choice`."""
    return {name: part for name, part in SPACES[family].items() if name not in fix}


def params_of(config, fix):
    """Return a config as the parameters of a trial."""
    params = {name: getattr(config, name) for name in searched(config.family, fix)}
    if "variant" in params:
        params["variant"] = searched_as(config)
    return params


def draw(trial, family, fix, **flags):
    """Let an Optuna trial choose a config; every choice is a valid one."""
    params = {name: part.draw(trial, name) for name, part in searched(family, fix).items()}
    return config_of(params, family, fix, **flags)


def config_of(params, family, fix, **flags):
    """Return the parameters of a trial as a config.

    Args:
        params: field to value, of every field that is searched.
        family: `naive` or `pix2pix`.
        fix: of `parse_fix`.
        **flags: `epochs` and `seed`.
    """
    fields = {**params, **fix, **flags}
    variant = fields.pop("variant", next(iter(of_family(family))))
    return _replace(VARIANTS[variant], **fields)


def _replace(config, **fields):
    """Change fields of a config; as deep as its network can be, where that is less."""
    if "depth" in fields:
        (depth,) = (spec for spec in tunable_fields(config) if spec.name == "depth")
        fields["depth"] = min(fields["depth"], depth.metadata["high"])
    return dataclasses.replace(config, **fields)


def describe(family, fix):
    """Return the space as rows for a table: field, range and reason; pinned ones as well."""
    rows = [{"field": name, "range": str(value), "reason": "fix"} for name, value in fix.items()]
    for name, part in searched(family, fix).items():
        if isinstance(part, Choice):
            span = " or ".join(part.options)
        else:
            span = f"{part.low:g} to {part.high:g}" + (", log" if part.log else "")
            span += f", step {part.step}" if part.step else ""
        rows.append({"field": name, "range": span, "reason": part.reason})
    return rows
