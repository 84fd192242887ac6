"""Make a sheet of photographs, from good to bad: gray, by a naive model, by a GAN, and real.

    python -m scripts.photographs NAIVE PIX2PIX FOLDER CREDIT    # writes docs/photographs.jpg

NAIVE and PIX2PIX are models of the store that MLFLOW_TRACKING_URI names, as `-P model=` takes them.
FOLDER holds photographs; those that a model was trained on are left out. CREDIT says whose they
are, and stands below: show only what may be shown.
"""

import sys
import textwrap
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from colorization import color, figures
from colorization.data import sources
from colorization.paths import ROOT
from colorization.registry import lookup
from serve.evaluation import holdout, scoring

TARGET = ROOT / "docs" / "photographs.jpg"
COLUMNS = 10
TILE, GAP = 128, 8
LEFT, TOP, BOTTOM = 84, 56, 60
CAPTION = 26  # below a tile
INK, PALE = "#1f2430", "#6a7180"


def main():
    """Write docs/photographs.jpg."""
    naive, pix2pix, folder, credit = sys.argv[1:]
    models = {"naive": lookup.resolve(naive), "GAN": lookup.resolve(pix2pix)}
    pictures = holdout.collect(sources.fetch(folder), models)
    print(pictures.summary())
    colorizers = {name: lookup.load_colorizer(each.model_uri) for name, each in models.items()}
    table, _ = scoring.score(colorizers, pictures)
    errors = {name: table.loc[table["model"] == name, "delta_e"].to_numpy() for name in table.model}
    order = np.mean([errors[name] for name in models], axis=0).argsort(kind="stable")
    places = figures.spread(order, COLUMNS)
    scored = [pictures.of(holdout.SCORED)[place] for place in places]
    real = pictures.images[scored]
    colored = dict(scoring.color_all(colorizers, real))
    gray = {"gray": color.to_uint8(color.gray_input(real, 3))}
    rows = gray | {name: colored[name] for name in models} | {"real": real}
    found = [pictures.rows[index] for index in scored]
    names = [(row.species or Path(row.path).stem).replace("_", " ") for row in found]
    captions = {name: [f"ΔE {errors[name][place]:.1f}" for place in places] for name in errors}
    scale = f"from the best to the worst of {len(order)} photographs, by CIEDE2000 (ΔE)"
    draw(rows, names, captions, scale, credit).save(TARGET, quality=90)


def draw(rows, names, captions, scale, credit):
    """Return the sheet: a column for each name, a row for each entry of `rows`."""
    width = LEFT + len(names) * (TILE + GAP)
    height = TOP + len(rows) * (TILE + CAPTION) - CAPTION + BOTTOM
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        middle = LEFT + column * (TILE + GAP) + TILE // 2
        text = textwrap.fill(name, 12)
        pen.text((middle, TOP - 8), text, INK, font(17), "md", align="center")
    for row, (title, images) in enumerate(rows.items()):
        top = TOP + row * (TILE + CAPTION)
        pen.text((LEFT - 12, top + TILE // 2), title, INK, font(21, "bold"), "rm")
        for column, image in enumerate(images):
            left = LEFT + column * (TILE + GAP)
            sheet.paste(Image.fromarray(image).resize((TILE, TILE)), (left, top))
            if title in captions:
                place = left + TILE // 2, top + TILE + 3
                pen.text(place, captions[title][column], PALE, font(16), "ma")
    y = height - BOTTOM + 16
    pen.line((LEFT, y, width - GAP - 8, y), PALE, 2)
    pen.polygon([(width - GAP, y), (width - GAP - 12, y - 6), (width - GAP - 12, y + 6)], PALE)
    pen.text((LEFT, y + 12), scale, INK, font(17))
    pen.text((width - GAP, y + 15), credit, PALE, font(14), "ra")
    return sheet


def font(size, weight="normal"):
    """Return matplotlib's font in a size in pixels."""
    file = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(file, size)


if __name__ == "__main__":
    main()
