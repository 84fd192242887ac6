"""What all trials of a study have in common, and how a trial becomes a config."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from colorization.config import VARIANTS, Config, deepest, tunable_fields
from sweeps.space import SPACES, Part, of_family, searched_variants

OBJECTIVES: dict[str, Literal["minimize", "maximize"]] = {
    "color_error": "minimize",
    "delta_e": "minimize",
    "psnr": "maximize",
    "ssim": "maximize",
}


@dataclass(frozen=True)
class Spec:
    """What makes the trials of a study comparable.

    Attributes:
        family: `naive` or `pix2pix`.
        objective: a key of `OBJECTIVES`, measured on the validation pictures.
        fix: of `space.parse_fix`.
        epochs: of a trial that is not pruned.
        seed: of the sampler, and of every training.
        digest: of the pictures.
        variants: that the study knows; by default all of the family that `fix` allows.
    """

    family: str
    objective: str
    fix: dict[str, Any]
    epochs: int
    seed: int
    digest: str = ""
    variants: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the default of `variants`."""
        pinned = self.fix.get("variant")
        known = (pinned,) if pinned else tuple(of_family(self.family))
        object.__setattr__(self, "variants", self.variants or known)

    @property
    def identity(self) -> dict[str, Any]:
        """What a study compares when it goes on: every field, and a digest of every variant."""
        variants = {name: _digest(VARIANTS.get(name)) for name in self.variants}
        return dataclasses.asdict(self) | {"variants": variants}

    @property
    def searched(self) -> dict[str, Part]:
        """What is left to search, by field."""
        parts = {name: part for name, part in SPACES[self.family].items() if name not in self.fix}
        if "variant" in parts:
            parts["variant"] = parts["variant"]._replace(drawn=searched_variants(self.variants))
        return parts

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What a trial draws, see `Study.ask`."""
        return {name: part.drawn for name, part in self.searched.items()}

    @property
    def full_epochs(self) -> int:
        """How many epochs make a full training: those of the longest preset."""
        return max(VARIANTS[name].epochs for name in self.presets())

    def presets(self, epochs: int | None = None) -> dict[str, Config]:
        """Return the variants with their own settings, as far as `fix` allows: name to config.

        Where `fix` makes two of them the same network, the first is returned.
        """
        presets: dict[Config, Config] = {}  # by the network that they are
        for name in self.variants:
            config = self._with(VARIANTS[name], {}, epochs)
            network = dataclasses.replace(config, variant=self._drawn_as(config), searched=True)
            presets.setdefault(network, config)
        return {config.variant: config for config in presets.values()}

    def config_of(self, params: dict[str, Any], epochs: int | None = None) -> Config:
        """Return the parameters of a trial, of all searched fields, as a config."""
        return self._with(VARIANTS[(params | self.fix)["variant"]], params, epochs)

    def config_of_trial(self, trial: FrozenTrial, epochs: int) -> Config:
        """Return the config of a finished trial, to be trained for another number of epochs."""
        preset = trial.user_attrs.get("preset")
        return self.presets(epochs)[preset] if preset else self.config_of(trial.params, epochs)

    def params_of(self, config: Config) -> dict[str, Any]:
        """Return a config as the parameters of a trial."""
        fields = dataclasses.asdict(config) | {"variant": self._drawn_as(config)}
        return {name: fields[name] for name in self.searched}

    def table(self) -> list[dict[str, str]]:
        """Return the space as rows: field, range and reason; pinned fields first."""
        rows = [(name, str(value), "fix") for name, value in self.fix.items()]
        rows += [(name, str(part), part.reason) for name, part in self.searched.items()]
        return [dict(zip(("field", "range", "reason"), row, strict=True)) for row in rows]

    def _drawn_as(self, config: Config) -> str:
        """Return the variant that a trial chooses to draw this config's network.

        A variant that is not searched is drawn as one that differs only in searched fields.
        """
        preset = VARIANTS[config.variant]
        if preset.searched or "variant" in self.fix:
            return config.variant
        for name in self.variants:
            if VARIANTS[name].searched and _unsearched(VARIANTS[name]) == _unsearched(preset):
                return name
        raise ValueError(
            f"A sweep cannot draw {config.variant}. Expected searched=True, or such a variant that "
            f"differs only in {', '.join(SPACES[config.family])}. Received: searched=False"
        )

    def _with(self, config: Config, params: dict[str, Any], epochs: int | None) -> Config:
        """Change fields of a config. The depth is cut to what its network can have."""
        fields = params | self.fix | {"epochs": epochs or self.epochs, "seed": self.seed}
        (depth,) = (field for field in tunable_fields(config) if field.name == "depth")
        most = min(depth.metadata["high"], deepest(fields.get("size", config.size)))
        fields["depth"] = min(fields.get("depth", config.depth), most)
        return dataclasses.replace(config, **fields | {"variant": config.variant})


def _unsearched(config: Config) -> tuple[type, dict[str, Any]]:
    ignored = {"searched", *SPACES[config.family]}
    fields = dataclasses.asdict(config)
    return type(config), {name: fields[name] for name in fields if name not in ignored}


def _digest(config: Config | None) -> str:
    text = json.dumps(dataclasses.asdict(config)) if config else ""
    return hashlib.sha256(text.encode()).hexdigest()[:8] if config else "none"
