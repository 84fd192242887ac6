"""What a training run can be told: one frozen dataclass per family, one entry per variant.

A field is also the command line's flag, the parameter in MLproject, the param in MLflow and the
name in a sweep. Ranges and help stand beside the default, so that all of them agree.
"""

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from colorization.address import shown

HEADS = ("chroma", "histogram", "rgb")
ENCODER_STAGES = 5
PRECISIONS = ("float32", "mixed_bfloat16")  # the default first


def _number(default, low, high, text):
    return field(default=default, metadata={"low": low, "high": high, "help": text})


def _choice(default, choices, text):
    return field(default=default, metadata={"choices": choices, "help": text})


def _file(default, names, text):
    return field(default=default, metadata={"names": names, "help": text})


def _as_in(parent, name, default):
    """Declare a parent's field again, with another default."""
    return field(default=default, metadata=parent.__dataclass_fields__[name].metadata)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What all variants share; validated on creation.

    Raises:
        ValueError: a field is of the wrong type or outside its range, which the message states.
    """

    family: ClassVar[str]
    gray_channels: ClassVar[int]

    variant: str
    head: str = _choice(
        "chroma", HEADS, "predict two planes of color, how likely each color is, or free RGB"
    )
    filters: int = _number(32, 4, 256, "channels of the first stage")
    depth: int = _number(3, 2, 7, "down-sampling stages")
    dropout: float = _number(0.0, 0.0, 0.9, "share of activations dropped while training")
    epochs: int = _number(20, 1, 10_000, "passes over the training pictures")
    batch_size: int = _number(8, 1, 512, "pictures per step")
    warmup_ratio: float = _number(0.05, 0.0, 0.9, "share of the steps in which the rates rise")
    ema_momentum: float = _number(0.998, 0.0, 0.99999, "of the average of weights that is kept")
    crop: float = _number(0.8, 0.1, 1.0, "smallest share of a side that random crops leave")
    seed: int = _number(0, 0, 2**31 - 1, "of weights, order, augmentation and dropout")
    precision: str = _choice(PRECISIONS[0], PRECISIONS, "of training; mixed is for a GPU")

    @property
    def generator_epochs(self):
        """How many epochs, from the first one on, know no discriminator."""
        return self.epochs

    # Of `generator_epochs`, how many, the last ones, are for a known encoder to learn as well.
    finetune_epochs: ClassVar[int] = 0
    finetune_learning_rate: ClassVar[float] = 0.0

    def __post_init__(self):
        """Check every field against its declared type and range."""
        for spec in tunable_fields(type(self)):
            object.__setattr__(self, spec.name, _checked(spec, getattr(self, spec.name)))

    @property
    def label(self):
        """What tables and figures call it: the variant, and its head where it was changed."""
        return self.variant if self.head == type(self).head else f"{self.variant} {self.head}"


@dataclass(frozen=True, kw_only=True)
class NaiveConfig(Config):
    """An autoencoder, gray (1 channel) to RGB, trained on one loss: of pixels, by default."""

    family: ClassVar[str] = "naive"
    gray_channels: ClassVar[int] = 1

    learning_rate: float = _number(1e-3, 1e-7, 1.0, "of Adam")
    loss: str = _choice("l1", ("l1", "mse"), "of chroma and rgb: pixel loss on [-1, 1]")


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(Config):
    """A conditional GAN, gray as RGB (3 channels) to RGB (Isola et al. 2017)."""

    family: ClassVar[str] = "pix2pix"
    gray_channels: ClassVar[int] = 3

    pretrain_ratio: float = _number(0.5, 0.0, 1.0, "share of epochs without the GAN, the first")
    pretrain_learning_rate: float = _number(1e-3, 1e-7, 1.0, "of Adam while there is no GAN")
    generator_learning_rate: float = _number(2e-4, 1e-7, 1.0, "of the generator's Adam")
    discriminator_learning_rate: float = _number(2e-4, 1e-7, 1.0, "of the discriminator's Adam")
    l1_weight: float = _number(100.0, 0.0, 10_000.0, "lambda: weight of L1 beside the GAN loss")
    gan_loss: str = _choice("bce", ("bce", "lsgan"), "cross-entropy, or least squares")

    @property
    def generator_epochs(self):
        """How many epochs, from the first one on, know no discriminator.

        Rounded down, so that a short training meets it too.
        """
        return int(self.pretrain_ratio * self.epochs)


@dataclass(frozen=True, kw_only=True)
class Transfer(Config):
    """What has an encoder that has learnt on other pictures before."""

    head: str = _as_in(Config, "head", "histogram")
    filters: int = _number(32, 4, 256, "channels of the decoder's last stage")
    depth: int = _number(5, 2, ENCODER_STAGES, "down-sampling stages, of the encoder's five")
    dropout: float = _as_in(Config, "dropout", 0.2)
    crop: float = _as_in(Config, "crop", 0.6)
    encoder_weights: str = _file("imagenet", ("imagenet", "none"), "what the encoder begins with")
    frozen_stages: int = _number(
        2, 0, ENCODER_STAGES, "of the encoder that stay as loaded, not with `none`"
    )
    finetune_ratio: float = _number(
        0.6, 0.0, 1.0, "share of epochs to fine-tune the rest, before a GAN"
    )
    finetune_learning_rate: float = _number(1e-4, 1e-7, 1.0, "of Adam while the encoder learns")

    @property
    def finetune_epochs(self):
        """How many of `generator_epochs`, the last ones, are for the encoder to learn as well.

        Rounded down: the decoder has to learn first.
        """
        if self.encoder_weights == "none" or self.frozen_stages == ENCODER_STAGES:
            return 0
        return int(self.finetune_ratio * self.generator_epochs)

    @property
    def encoder(self):
        """Its name, the end of the variant's: `mobilenet` or `efficientnet`."""
        return self.variant.split("_")[-1]


@dataclass(frozen=True, kw_only=True)
class TransferNaiveConfig(Transfer, NaiveConfig):
    """A U-Net around an encoder that has learnt on other pictures, trained on likely colors."""


@dataclass(frozen=True, kw_only=True)
class TransferPix2PixConfig(Transfer, Pix2PixConfig):
    """A conditional GAN whose generator's encoder has learnt on other pictures before."""

    pretrain_ratio: float = _as_in(Pix2PixConfig, "pretrain_ratio", 0.8)
    l1_weight: float = _as_in(Pix2PixConfig, "l1_weight", 17.0)


def tunable_fields(config_class):
    """Return the dataclass fields that a user may set: all but the variant."""
    return [spec for spec in dataclasses.fields(config_class) if spec.name != "variant"]


def add_arguments(parser, config):
    """Add a flag for every field of `config` to an `argparse` parser, its range in the help."""
    for spec in tunable_fields(config):
        default = getattr(config, spec.name)
        text = f"{spec.metadata['help']}; {_expected(spec)} (default: {default})"
        parser.add_argument(f"--{spec.name}", default=default, metavar=spec.name.upper(), help=text)


def from_arguments(config, arguments: argparse.Namespace):
    """Return `config` with the values of the parsed flags.

    Raises:
        ValueError: a value is of the wrong type or outside its range.
    """
    values = {spec.name: getattr(arguments, spec.name) for spec in tunable_fields(config)}
    return dataclasses.replace(config, **values)


def every_head(variants, epochs):
    """Return the configs of a comparison: every named variant, and with free RGB, equally long.

    Args:
        variants: names, separated by commas.
        epochs: of every training.

    Raises:
        ValueError: a name is unknown, or `epochs` is out of range.
    """
    names = [name.strip() for name in variants.split(",")]
    if not set(names) <= set(VARIANTS):
        raise ValueError(
            f"Unknown variant. Expected one or more of {', '.join(VARIANTS)}, separated by commas. "
            f"Received: variants={variants!r}"
        )
    return [
        dataclasses.replace(VARIANTS[name], head=head, epochs=epochs)
        for name in dict.fromkeys(names)
        for head in (VARIANTS[name].head, "rgb")
    ]


def _expected(spec):
    if "names" in spec.metadata:
        return f"{', '.join(spec.metadata['names'])}, or an existing .h5 file"
    if "choices" in spec.metadata:
        return " or ".join(spec.metadata["choices"])
    kind = {int: "a whole number", float: "a number"}[spec.type]
    return f"{kind} from {spec.metadata['low']:g} to {spec.metadata['high']:g}"


def _checked(spec, value):
    """Return `value` as the field's type, or raise a ValueError that states the range."""
    try:
        typed = value if type(value) is spec.type else spec.type(value)
        if spec.type is int and float(typed) != float(value):
            raise ValueError
    except (TypeError, ValueError):
        typed = None
    if typed is not None and _in_range(spec, typed):
        return typed
    received = shown(value) if isinstance(value, str) else value
    raise ValueError(
        f"Bad value for `{spec.name}`. Expected {_expected(spec)}. "
        f"Received: {spec.name}={received!r}"
    )


def _in_range(spec, value):
    if "names" in spec.metadata:
        return value in spec.metadata["names"] or Path(value).is_file()
    if "choices" in spec.metadata:
        return value in spec.metadata["choices"]
    return spec.metadata["low"] <= value <= spec.metadata["high"]  # NaN is in no range


# Last, since creating an entry already checks it.
VARIANTS = {
    config.variant: config
    for config in (
        NaiveConfig(variant="naive_basic"),
        NaiveConfig(variant="naive_dropout", dropout=0.2),
        NaiveConfig(variant="naive_deep", depth=4),
        Pix2PixConfig(variant="pix2pix", filters=16, depth=7, dropout=0.5, epochs=16),
        TransferNaiveConfig(variant="naive_efficientnet", epochs=30),
        *(
            TransferPix2PixConfig(variant=name, epochs=36)
            for name in ("pix2pix_mobilenet", "pix2pix_efficientnet")
        ),
    )
}

FROM_SCRATCH = [name for name, config in VARIANTS.items() if not isinstance(config, Transfer)]
