"""The examples of the page: photographs that may be shown, then painted birds."""

import re
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from colorization.paths import ROOT

ASSETS = ROOT / "assets"
CREDIT = re.compile(r"^\| `(.+)` \| (.+) \| \[(.+)\]\((.+)\) \|$", re.MULTILINE)
THUMBNAIL = 256, 256


class Example(NamedTuple):
    """A picture to try; a painted one has no credit. `licence` is a name, `terms` its address."""

    path: Path
    author: str = ""
    licence: str = ""
    terms: str = ""

    @property
    def name(self) -> str:
        """What the page calls it."""
        return self.path.stem[0].upper() + self.path.stem[1:].replace("_", " ")

    @property
    def painted(self) -> bool:
        """Whether it is a painting, of which a model of paintings knows the colors."""
        return not self.licence

    def write_thumbnail(self, folder: Path) -> Path:
        """Write a small square of it; return the path."""
        path = folder / f"{self.name}.jpg"
        with Image.open(self.path) as image:
            ImageOps.fit(image, THUMBNAIL).save(path)
        return path


def read_examples() -> list[Example]:
    """Return the examples in the order of the page, with the credits that lie beside them."""
    folder = ASSETS / "photographs"
    rows = CREDIT.findall((folder / "README.md").read_text("utf-8"))
    photographs = [Example(folder / file, *credit) for file, *credit in rows]
    return photographs + [Example(path) for path in sorted((ASSETS / "examples").glob("*.jpg"))]
