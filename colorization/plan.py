"""What a comparison trains, and how long that will take by what other trainings took."""

import dataclasses
import itertools
from collections.abc import Sequence

from colorization.config import HEADS, VARIANTS, Config, with_size

# Of whole trainings with their scores, at 128 pixels on two cores of an AMD EPYC, by architecture.
PICTURES_PER_SECOND = {"autoencoder": 55, "unet": 52, "pretrained_unet": 26}
OTHER_SECONDS = 15  # to compile, export, test and log
ESTIMATE_OF = "estimated for two cores of an AMD EPYC; a GPU should be faster"


def compared(names: str, epochs: int | str, size: int | str = Config.size) -> list[Config]:
    """Return the configs of a comparison.

    The names are labels of variants, separated by commas: `pix2pix`, or with another head
    than its own, `pix2pix_rgb`.

    Raises:
        ValueError: a name, `epochs` or `size` is not acceptable.
    """
    pairs = itertools.product(VARIANTS.values(), HEADS)
    every = [dataclasses.replace(config, head=head) for config, head in pairs]
    known = {each.label: each for each in every}
    given = list(dict.fromkeys(name.strip() for name in names.split(",")))
    if not set(given) <= set(known):
        raise ValueError(
            f"Unknown variant. Expected one or more of {', '.join(VARIANTS)}, separated by commas, "
            "also with another head than its own, such as pix2pix_rgb. "
            f"Received: variants={names!r}"
        )
    return [
        dataclasses.replace(with_size(known[name], size), epochs=epochs)  # type: ignore[arg-type]
        for name in given
    ]


def seconds(config: Config, pictures: int) -> float:
    """Return about how long a training takes on so many pictures."""
    slowest = min(PICTURES_PER_SECOND.values())
    speed = PICTURES_PER_SECOND.get(config.architecture, slowest)
    area = (config.size / Config.size) ** 2
    return OTHER_SECONDS + config.epochs * pictures * area / speed


def described(configs: Sequence[Config], pictures: int) -> str:
    """Say what a comparison trains, for how many epochs, and about how long that takes."""
    names = ", ".join(each.label for each in configs)
    took = duration(sum(seconds(each, pictures) for each in configs))
    return (
        f"{counted(len(configs), 'training')} of {counted(configs[0].epochs, 'epoch')} on "
        f"{counted(pictures, 'picture')}: {names}; "
        f"about {took}, {ESTIMATE_OF}; what is trained already is not trained again"
    )


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 trial`, `2 trials`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def duration(length: float) -> str:
    """Return a number of seconds as a person would say it."""
    if length < 100:
        return f"{length:.0f} s"
    return f"{length / 60:.0f} min" if length < 100 * 60 else f"{length / 3600:.1f} h"
