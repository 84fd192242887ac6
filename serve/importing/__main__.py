"""Import trained networks: from Google Drive, a URL or a file into the registry.

`python -m serve.importing --naive <id, URL or path>`; without any, the networks that come with the
project. `mlflow run . -e pretrained` calls it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from colorization import process
from colorization.address import shown
from colorization.config import DATA, NaiveConfig, Pix2PixConfig

if TYPE_CHECKING:
    import keras

    from colorization.data.prepare import Splits

GRAY_CHANNELS = {each.family: each.gray_channels for each in (NaiveConfig, Pix2PixConfig)}
UNKNOWN_HOLDOUT = "unknown: the imported weights may have been trained on them"

logger = logging.getLogger("serve.importing")


@dataclass(frozen=True)
class Imported:
    """Describes imported weights: what their run logs in place of a training's config."""

    variant: str
    family: str
    source: str  # without secrets
    sha256: str
    size: int  # the side of the network's pictures
    input_range: str  # as of `value_range.ValueRange`
    output_range: str

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return self.variant

    @property
    def gray_channels(self) -> int:
        """Channels of the network's input."""
        return GRAY_CHANNELS[self.family]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line: weights for one family, both or none, and pictures for their test."""
    parser = process.Parser(prog="python -m serve.importing", description=__doc__)
    for family, channels in GRAY_CHANNELS.items():
        parser.add_argument(
            f"--{family}",
            default="",
            help=f"network of {channels} input channel{'s' * (channels > 1)}: id or URL of Google "
            "Drive, http(s) URL, path of a .keras or .h5 file, id of an earlier run, runs:/... or "
            "models:/...",
        )
        parser.add_argument(f"--{family}_sha256", default="", help="expected SHA-256 of the file")
    parser.add_argument("--data", default="sample", help=f"to test them: {DATA}")
    arguments = parser.parse_args(argv)
    given = {family for family in GRAY_CHANNELS if getattr(arguments, family)}
    for family in GRAY_CHANNELS:
        if (digest := getattr(arguments, f"{family}_sha256")) and family not in given:
            parser.error(f"Expected {family}=NETWORK, too. Received: {family}_sha256={digest!r}")
    if arguments.data != parser.get_default("data") and not given:
        parser.error(
            "Expected networks to test with these pictures: naive=NETWORK, pix2pix=NETWORK or "
            f"both. Received: data={shown(arguments.data)!r}"
        )
    return arguments


@process.entry_point(parse)
def main(arguments: argparse.Namespace) -> None:
    """Import the networks that the command line names, each in a run of its own.

    All of them are checked before anything is logged.
    """
    given = {family: getattr(arguments, family) for family in GRAY_CHANNELS}
    if not any(given.values()):
        return _register_own()
    from colorization.data import prepare, sources

    sources.require(arguments.data)
    from colorization.weights import download  # imports MLflow

    given = {family: download.resolve(each) for family, each in given.items() if each}
    files = {
        family: download.fetch(reference, getattr(arguments, f"{family}_sha256"))
        for family, reference in given.items()
    }
    process.import_tensorflow()  # neither --help nor a failed download should wait for it
    from colorization.data.photograph import IMAGE_SIZE
    from colorization.weights import safe_keras
    from serve.importing import value_range

    networks = {
        family: value_range.require_shapes(safe_keras.load(file), IMAGE_SIZE, GRAY_CHANNELS[family])
        for family, file in files.items()
    }
    pictures = sources.fetch(arguments.data)
    sizes = {family: network.input_shape[1] for family, network in networks.items()}
    prepared = {size: prepare.prepare(pictures, size) for size in set(sizes.values())}
    ranges = {
        family: value_range.probe(network, prepared[sizes[family]].val.images)
        for family, network in networks.items()
    }
    for family, (*found, luma_error) in ranges.items():
        source, sha256, size = shown(given[family]), download.digest(files[family]), sizes[family]
        config = Imported(f"{family}_pretrained", family, source, sha256, size, *found)
        colorizer = value_range.as_colorizer(networks[family], ranges[family])
        _log(config, colorizer, prepared[size], arguments.data, luma_error)


def _log(
    config: Imported, colorizer: keras.Model, splits: Splits, data: str, luma_error: float
) -> None:
    """Log an imported network like a trained one, and offer it to the registry."""
    import mlflow

    from colorization import experiment, tracking
    from colorization.registry import promotion

    ranges = f"{config.input_range} in, {config.output_range} out"
    off = f"its luma is off by {luma_error:.1f} levels of 255 in these ranges"
    logger.info("%s: %s; %s", config.variant, ranges, off)
    origin = "with weights that may have been trained on these very pictures, imported from "
    origin += f"`{config.source}` (SHA-256 `{config.sha256}`; {ranges})"
    with tracking.open_run(config.label) as opened:
        tracking.log_config(config, data=data)
        tracking.log_data(splits, used=["test"])
        mlflow.set_tag("test_pictures_unseen", UNKNOWN_HOLDOUT)
        mlflow.log_metric("probe_luma_error", luma_error)
        model = experiment.log_colorizer(config, colorizer, splits, origin)
    candidate = experiment.log_outcome(config.label, opened, model)
    promotion.finish(candidate, register=True)


def _register_own() -> None:
    """Register the networks that come with the project."""
    from colorization import runs
    from colorization.registry import promotion, shipped

    candidates = [shipped.find(family) for family in GRAY_CHANNELS]
    with runs.open_launched("pretrained"):
        for candidate in candidates:
            promotion.finish(candidate, register=True)


if __name__ == "__main__":
    sys.exit(main())
