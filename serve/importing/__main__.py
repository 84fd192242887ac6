"""Import trained networks: from Google Drive, a URL or a file into the registry.

`python -m serve.importing --naive <id, URL or path>`; without any, the networks that come with the
project. `mlflow run . -e pretrained` calls it.
"""

import argparse
import sys
from collections.abc import Sequence

from colorization import process
from colorization.address import shown
from colorization.config import DATA
from serve.importing.imported import GRAY_CHANNELS, Imported, log


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
    return parser.parse_args(argv)


@process.entry_point(parse)
def main(arguments: argparse.Namespace) -> None:
    """Import the networks that the command line names, each in a run of its own.

    All of them are checked before anything is logged.
    """
    if not any(getattr(arguments, family) for family in GRAY_CHANNELS):
        return register_own()
    from colorization.data import prepare, sources

    sources.require(arguments.data)
    from colorization.weights import download  # imports MLflow

    given = {family: getattr(arguments, family) for family in GRAY_CHANNELS}
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
    for family, network in networks.items():
        size, splits = sizes[family], prepared[sizes[family]]
        found, sha256 = ranges[family], download.digest(files[family])
        variant, source = f"{family}_pretrained", shown(given[family])
        config = Imported(variant, family, source, sha256, size, found.input, found.output)
        colorizer = value_range.as_colorizer(network, found)
        log(config, colorizer, splits, arguments.data, found.luma_error)


def register_own() -> None:
    """Register the networks that come with the project."""
    from colorization import runs
    from colorization.registry import promotion, shipped

    candidates = [shipped.find(family) for family in GRAY_CHANNELS]
    with runs.open_launched("pretrained"):
        for candidate in candidates:
            promotion.finish(candidate, register=True)


if __name__ == "__main__":
    sys.exit(main())
