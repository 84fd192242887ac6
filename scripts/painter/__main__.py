"""Paint the sample, and the painted examples of the web page, into `assets`.

    python -m scripts.painter

NumPy rounds as the processor's instructions do: with and without AVX2 a painting differs in a few
pixels, and so does the SHA-256 that decides on its split. The pictures are therefore kept as files:
digest, splits and baselines are the same on every processor.
"""

import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from scripts.painter.scene import paint
from scripts.painter.species import SPECIES

ASSETS = Path(__file__).parents[2] / "assets"

COUNT = 24  # pictures of each species
QUALITY = 90  # the .zip is to stay below 10 MB

EXAMPLE_SIDE = 512
EXAMPLES = {"Robin": 906, "Bluetit": 903}  # seeds that the sample does not reach


def paint_jpeg(species: str, seed: int, size: int = 256) -> bytes:
    """Paint one bird as a JPEG, which keeps its colors at full resolution."""
    file = io.BytesIO()
    paint(species, seed, size).save(file, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return file.getvalue()


def write_sample(path: Path) -> None:
    """Paint `COUNT` birds of each species into a .zip, as `<Species>/(n).jpg`, on all cores.

    The same paintings give the same bytes: entries are sorted, and ZipInfo dates them 1980.
    """
    birds = [(species, number) for species in sorted(SPECIES) for number in range(1, COUNT + 1)]
    # Threads, since Pillow and NumPy let each other run: no process to spawn, no main to guard.
    with ThreadPoolExecutor(os.cpu_count()) as pool, zipfile.ZipFile(path, "w") as archive:
        painted = pool.map(paint_jpeg, *zip(*birds, strict=True))
        done = tqdm(painted, "Painting birds", len(birds), unit="")
        for (species, number), jpeg in zip(birds, done, strict=True):
            archive.writestr(zipfile.ZipInfo(f"{species}/({number}).jpg"), jpeg)


def write_examples(folder: Path) -> None:
    """Paint examples of the web page, as `<Species>.jpg`."""
    folder.mkdir(exist_ok=True)
    for species, seed in EXAMPLES.items():
        (folder / f"{species}.jpg").write_bytes(paint_jpeg(species, seed, EXAMPLE_SIDE))


if __name__ == "__main__":
    write_sample(ASSETS / "sample.zip")
    write_examples(ASSETS / "examples")
