"""Import trained networks: from Google Drive, a URL or a file through the gate into the registry.

`python -m serve.importing --naive <id, URL or path>`; `mlflow run . -e pretrained` calls it.
"""

import logging
from dataclasses import dataclass

from colorization import process
from colorization.address import shown
from colorization.config import NaiveConfig, Pix2PixConfig

logger = logging.getLogger(__name__)

GRAY_CHANNELS = {each.family: each.gray_channels for each in (NaiveConfig, Pix2PixConfig)}
UNSEEN = "unknown: the imported weights may have been trained on them"


@dataclass(frozen=True)
class Pretrained:
    """What a run tells of imported weights; it stands where a training has its config.

    The ranges are keys of `reading.RANGES`; the source is as `address.shown` shows it.
    """

    variant: str
    family: str
    source: str
    sha256: str
    input_range: str
    output_range: str

    @property
    def label(self):
        """What tables and figures call it."""
        return self.variant

    @property
    def gray_channels(self):
        """Of the network's input."""
        return GRAY_CHANNELS[self.family]

    @property
    def origin(self):
        """What the run's note says of the weights."""
        return (
            "with weights that may have been trained on these very pictures, imported from "
            f"`{self.source}` (SHA-256 `{self.sha256}`; {self.input_range} in, "
            f"{self.output_range} out)"
        )


def parse(argv=None):
    """Parse the command line: weights for one family or both, and the pictures to judge them."""
    parser = process.Parser(prog="python -m serve.importing", description=__doc__)
    for family, channels in GRAY_CHANNELS.items():
        parser.add_argument(
            f"--{family}",
            default="",
            help=f"network of {channels} channel{'s' * (channels > 1)} in: id or URL of Google "
            "Drive, http(s) URL, path of a .keras or .h5 file, or id of an earlier run",
        )
        parser.add_argument(f"--{family}_sha256", default="", help="that the file must have")
    parser.add_argument(
        "--data",
        default="sample",
        help="to judge them on: sample (painted birds), kaggle, or a folder or .zip of photographs",
    )
    arguments = parser.parse_args(argv)
    if not any(getattr(arguments, family) for family in GRAY_CHANNELS):
        parser.error("Expected --naive or --pix2pix, or both.")
    return arguments


@process.entry_point(parse)
def main(arguments):
    """Import the networks that the command line names.

    What cannot be imported is refused before anything is logged. Then each has a run of its own.
    """
    from colorization.weights import download

    given = {family: getattr(arguments, family) for family in GRAY_CHANNELS}
    given = {family: reference for family, reference in given.items() if reference}
    files = {
        family: download.fetch(reference, getattr(arguments, f"{family}_sha256"))
        for family, reference in given.items()
    }
    # These bring TensorFlow, for which neither --help nor a failed download should wait.
    from colorization.data import prepare, sources
    from colorization.data.photograph import IMAGE_SIZE
    from colorization.weights import safe_keras
    from serve.importing import value_range

    found = {
        family: value_range.require_shapes(safe_keras.load(file), IMAGE_SIZE, GRAY_CHANNELS[family])
        for family, file in files.items()
    }
    splits = prepare.prepare(sources.fetch(arguments.data))
    readings = {f: value_range.probe(network, splits.val.images) for f, network in found.items()}
    for family, network in found.items():
        ranges = readings[family].input, readings[family].output
        sha256 = download.digest(files[family])
        source = shown(given[family])
        config = Pretrained(f"{family}_pretrained", family, source, sha256, *ranges)
        colorizer = value_range.as_colorizer(network, readings[family])
        log(config, colorizer, splits, arguments.data, readings[family].luma_error)


def log(config, colorizer, splits, data, luma_error):
    """Log a network that was imported like a trained one, and offer it to the registry.

    Args:
        config: a `Pretrained`.
        colorizer: `keras.Model` of the contract, see `reading.as_colorizer`.
        splits: whose test pictures judge it.
        data: what they were fetched from, see `sources.fetch`.
        luma_error: of the probe, in levels of 255.
    """
    import mlflow

    from colorization import experiment, tracking
    from colorization.registry import promotion

    logger.info(
        "%s: %s in, %s out; its luma is off by %.1f levels of 255 in this reading",
        *(config.variant, config.input_range, config.output_range, luma_error),
    )
    with tracking.open_run(config.label) as opened:
        tracking.log_config(config, data=data)
        tracking.log_data(splits, used=["test"])
        mlflow.set_tag("test_pictures_unseen", UNSEEN)
        mlflow.log_metric("probe_luma_error", luma_error)
        model = experiment.log_colorizer(config, colorizer, splits, config.origin)
    candidate = experiment.finished(config.label, opened, model)
    logger.info("serve it: %s", promotion.command_after(*candidate, register=True))
