"""The configuration of a training: one dataclass per family, one entry of `VARIANTS` per variant.

A field is also the command line's flag, the parameter of `mlflow run`, the param in MLflow and the
name in a sweep. Its default, range and help are stated here. `MLproject` has an entry point for
each variant: a test compares the few defaults that it repeats, and all others it hands on.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from colorization.fields import as_in, checked, choice, expected, file, number
from colorization.losses import GAN_LOSSES, PIXEL_LOSSES

HEADS = ("chroma", "histogram", "rgb")  # of `models.heads.HEADS`, which this must not import
ENCODERS = ("efficientnet", "mobilenet")  # of `models.pretrained_unet.ENCODERS`
ENCODER_STAGES = 5
CROSS_ENTROPY = "cross_entropy"  # the loss of the head histogram
PRECISIONS = ("float32", "mixed_bfloat16")  # the default first
DATA = (
    "sample (painted birds), kaggle or kaggle:<owner>/<dataset>, a folder, .zip or .tar of photos"
)
"""Help of the flag `--data` of every command line."""

SCHEDULE = "schedule"
GROUPS = {
    "what": [],
    "data": ["size", "crop"],
    "network": "head filters depth dropout encoder encoder_weights frozen_stages precision".split(),
    SCHEDULE: [],
    "GAN": "generator_only_ratio generator_only_learning_rate generator_learning_rate "
    "discriminator_learning_rate l1_weight gan_loss".split(),
}
"""Parameters by the groups of `--help`, in this order; all others belong to the schedule."""

AnyConfig = TypeVar("AnyConfig", bound="Config")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What all variants share; validated on creation.

    Attributes:
        family: a key of `models.build.TRAINERS`.
        gray_channels: of the network's input.
        learning_rates: fields, each for the optimizer of the same name.
        architecture: of the generator, a key of `models.build.GENERATORS`.
        compared: whether `mlflow run .` trains it by default.
        searched: whether a sweep of the family may choose it.

    The other fields are the user's parameters, see `tunable_fields`.

    Raises:
        ValueError: a field is of the wrong type or outside its range, which the message states.
    """

    family: ClassVar[str]
    gray_channels: ClassVar[int]
    learning_rates: ClassVar[tuple[str, ...]]

    variant: str
    architecture: str
    compared: bool = True
    searched: bool = True

    size: int = number(128, 32, 512, "side of the prepared pictures, in pixels", step=32)
    head: str = choice(
        "chroma", HEADS, "predict two planes of color, how likely each color is, or free RGB"
    )
    filters: int = number(32, 4, 256, "channels of the first stage")
    depth: int = number(3, 2, 7, "down-sampling stages")
    dropout: float = number(0.0, 0.0, 0.9, "share of activations dropped while training")
    epochs: int = number(20, 1, 10_000, "passes over the training pictures")
    batch_size: int = number(8, 1, 512, "pictures per step")
    warmup_ratio: float = number(0.05, 0.0, 0.9, "share of the steps in which the rates rise")
    ema_momentum: float = number(0.998, 0.0, 0.99999, "share of the averaged weights that is kept")
    crop: float = number(0.8, 0.1, 1.0, "smallest share of a side that random crops leave")
    seed: int = number(0, 0, 2**31 - 1, "seed of weights, order, augmentation and dropout")
    precision: str = choice(PRECISIONS[0], PRECISIONS, "precision of training; mixed is for a GPU")

    def __post_init__(self) -> None:
        """Check every field against its declared type and range."""
        for spec in tunable_fields(type(self)):
            object.__setattr__(self, spec.name, checked(spec, getattr(self, spec.name)))
        if self.depth > deepest(self.size):
            raise ValueError(
                f"`depth` halves the pictures too often. Expected at most {deepest(self.size)} for "
                f"pictures of {self.size} pixels. Received: depth={self.depth}, size={self.size}"
            )

    @property
    def label(self) -> str:
        """The name in tables and figures: the variant, and its head where it was changed."""
        return self.variant if self.head == type(self).head else f"{self.variant}_{self.head}"

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates by name."""
        return {name: getattr(self, name) for name in self.learning_rates}

    @property
    def generator_only_epochs(self) -> int:
        """The number of epochs, from the first one on, without a discriminator."""
        return self.epochs

    @property
    def generator_only_rates(self) -> dict[str, float]:
        """The learning rates of these epochs, by name."""
        return self.rates

    @property
    def finetune_epochs(self) -> int:
        """The number of these epochs, the last ones, that also train a pretrained encoder."""
        return 0

    @property
    def finetune_rates(self) -> dict[str, float]:
        """The learning rates of these epochs, by name."""
        return self.generator_only_rates


@dataclass(frozen=True, kw_only=True)
class NaiveConfig(Config):
    """An autoencoder, gray (1 channel) to RGB, trained on one loss: a pixel loss by default."""

    family: ClassVar[str] = "naive"
    gray_channels: ClassVar[int] = 1
    learning_rates: ClassVar[tuple[str, ...]] = ("learning_rate",)

    architecture: str = "autoencoder"
    batch_norm: bool = False

    learning_rate: float = number(1e-3, 1e-7, 1.0, "learning rate of Adam")
    loss: str = choice(
        "l1", PIXEL_LOSSES, "pixel loss on [-1, 1]; the head histogram has cross_entropy instead"
    )

    def __post_init__(self) -> None:
        """See `Config`. The loss follows the head where that is replaced."""
        if self.loss == CROSS_ENTROPY:
            object.__setattr__(self, "loss", NaiveConfig.loss)
        super().__post_init__()
        if self.head == "histogram":
            object.__setattr__(self, "loss", CROSS_ENTROPY)


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(Config):
    """A conditional GAN, gray as RGB (3 channels) to RGB (Isola et al. 2017)."""

    family: ClassVar[str] = "pix2pix"
    gray_channels: ClassVar[int] = 3
    learning_rates: ClassVar[tuple[str, ...]] = (
        "generator_learning_rate",
        "discriminator_learning_rate",
    )

    architecture: str = "unet"

    generator_only_ratio: float = number(
        0.5, 0.0, 1.0, "share of the epochs, the first ones, without the discriminator"
    )
    generator_only_learning_rate: float = number(1e-3, 1e-7, 1.0, "learning rate in these epochs")
    generator_learning_rate: float = number(2e-4, 1e-7, 1.0, "learning rate of the generator")
    discriminator_learning_rate: float = number(
        2e-4, 1e-7, 1.0, "learning rate of the discriminator"
    )
    l1_weight: float = number(100.0, 0.0, 10_000.0, "lambda: weight of L1 beside the GAN loss")
    gan_loss: str = choice("bce", GAN_LOSSES, "cross-entropy, or least squares")

    @property
    def generator_only_epochs(self) -> int:
        """See `Config`; rounded down, so that a short training has a discriminator too."""
        return int(self.generator_only_ratio * self.epochs)

    @property
    def generator_only_rates(self) -> dict[str, float]:
        """See `Config`; the discriminator's is 0."""
        return dict(zip(self.learning_rates, (self.generator_only_learning_rate, 0.0), strict=True))


@dataclass(frozen=True, kw_only=True)
class PretrainedEncoder(Config):
    """A U-Net whose encoder was pretrained on ImageNet."""

    architecture: str = "pretrained_unet"
    compared: bool = False

    head: str = as_in(Config, "head", "histogram")
    filters: int = number(32, 4, 256, "channels of the decoder's last stage")
    depth: int = number(5, 2, ENCODER_STAGES, "down-sampling stages, of the encoder's five")
    dropout: float = as_in(Config, "dropout", 0.2)
    crop: float = as_in(Config, "crop", 0.6)
    encoder: str = choice(ENCODERS[0], ENCODERS, "EfficientNet-Lite0 or MobileNetV2")
    encoder_weights: str = file("imagenet", ("imagenet", "none"), "initial weights of the encoder")
    frozen_stages: int = number(
        2, 0, ENCODER_STAGES, "stages of a pretrained encoder that never learn"
    )
    finetune_ratio: float = number(
        0.6, 0.0, 1.0, "share of the generator-only epochs in which the other stages learn"
    )
    finetune_learning_rate: float = number(1e-4, 1e-7, 1.0, "learning rate in these epochs")

    @property
    def finetune_epochs(self) -> int:
        """See `Config`; rounded down, since the decoder has to learn first."""
        if self.encoder_weights == "none" or self.frozen_stages == ENCODER_STAGES:
            return 0
        return int(self.finetune_ratio * self.generator_only_epochs)

    @property
    def finetune_rates(self) -> dict[str, float]:
        """See `Config`."""
        return self.generator_only_rates | {self.learning_rates[0]: self.finetune_learning_rate}


@dataclass(frozen=True, kw_only=True)
class PretrainedNaiveConfig(PretrainedEncoder, NaiveConfig):
    """A U-Net around a pretrained encoder, trained on the likelihood of colors."""


@dataclass(frozen=True, kw_only=True)
class PretrainedPix2PixConfig(PretrainedEncoder, Pix2PixConfig):
    """A conditional GAN whose generator has a pretrained encoder."""

    generator_only_ratio: float = as_in(Pix2PixConfig, "generator_only_ratio", 0.8)
    l1_weight: float = as_in(Pix2PixConfig, "l1_weight", 17.0)


def deepest(size: int) -> int:
    """Return how often a size in pixels can be halved."""
    return (size & -size).bit_length() - 1


def with_size(config: AnyConfig, size: int | str) -> AnyConfig:
    """Return `config` for pictures of another size, its depth cut to what that size allows."""
    known: int = checked(Config.__dataclass_fields__["size"], size)
    return dataclasses.replace(config, size=known, depth=min(config.depth, deepest(known)))


def tunable_fields(config: Config | type[Config]) -> list[dataclasses.Field]:
    """Return the dataclass fields that a user may set."""
    return [spec for spec in dataclasses.fields(config) if "help" in spec.metadata]


def owners() -> dict[str, str]:
    """Return the first variant that has a field, by the field's name."""
    return {spec.name: own for own in reversed(VARIANTS) for spec in tunable_fields(VARIANTS[own])}


def add_arguments(groups: Mapping[str, argparse._ArgumentGroup], config: Config) -> None:
    """Add a flag for each field, with its range and default, to a parser's groups, see `GROUPS`."""
    for spec in tunable_fields(config):
        group = next((name for name, fields in GROUPS.items() if spec.name in fields), SCHEDULE)
        default = getattr(config, spec.name)
        text = f"{spec.metadata['help']}; {expected(spec)} (default: {default})"
        kind = {int: "N", float: "X"}.get(spec.type, "NAME")  # type: ignore[arg-type]
        groups[group].add_argument(f"--{spec.name}", metavar=kind, help=text)


def from_arguments(config: AnyConfig, arguments: argparse.Namespace) -> AnyConfig:
    """Return `config` with the values of the flags that were given; see `changed`."""
    values = {spec.name: getattr(arguments, spec.name) for spec in tunable_fields(config)}
    return changed(config, {name: each for name, each in values.items() if each is not None})


def changed(config: AnyConfig, values: dict[str, Any]) -> AnyConfig:
    """Return `config` with the values that a user gave.

    Raises:
        ValueError: a value is not acceptable, or the head has another loss than the one given.
    """
    made = dataclasses.replace(config, **values)
    loss = getattr(made, "loss", None)
    if values.get("loss", loss) != loss:
        known = " or ".join([CROSS_ENTROPY] if loss == CROSS_ENTROPY else PIXEL_LOSSES)
        raise ValueError(
            f"Bad value for `loss`. Expected {known} with head={made.head}, or no `loss`. "
            f"Received: loss={values['loss']!r}"
        )
    return made


# Last, since creating an entry already checks it.
VARIANTS: dict[str, Config] = {
    config.variant: config
    for config in (
        # Not searched: a sweep reaches the same network as naive_dropout with dropout 0.
        NaiveConfig(variant="naive_basic", searched=False),
        NaiveConfig(variant="naive_dropout", dropout=0.2),
        NaiveConfig(variant="naive_deep", depth=4, batch_norm=True),
        Pix2PixConfig(variant="pix2pix", filters=16, depth=7, dropout=0.5, epochs=16),
        PretrainedNaiveConfig(variant="naive_efficientnet", epochs=30),
        PretrainedPix2PixConfig(variant="pix2pix_efficientnet", epochs=36),
    )
}
