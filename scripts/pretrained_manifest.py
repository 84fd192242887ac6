"""Make the manifest of what the models in assets/pretrained/ were trained on and chosen by.

    python -m scripts.pretrained_manifest MANIFEST FOLDER    # writes assets/pretrained/manifest.csv

MANIFEST is what a run with `data=kaggle` logs, with the SHA-256 of each original. FOLDER holds the
pictures, of any size, in `train` and `val`; only of these are rows written, with perceptual hashes.
"""

import sys
from dataclasses import replace
from pathlib import Path

from colorization.data import manifest, photograph
from colorization.registry import shipped


def main():
    """Write assets/pretrained/manifest.csv."""
    source, folder = map(Path, sys.argv[1:])
    rows = []
    for row in manifest.read(source):
        for split in ("train", "val"):
            file = folder / split / row.species / Path(row.path).name
            if file.exists():
                look = photograph.perceptual_hash(photograph.decode(file.read_bytes()))
                rows.append(replace(row, split=split, hash=look))
    manifest.write(shipped.FOLDER / shipped.MANIFEST, rows)


if __name__ == "__main__":
    main()
