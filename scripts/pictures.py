"""Make the pictures of README and docs from the store's latest finished runs on painted birds.

    mlflow run . -e pix2pix_efficientnet && mlflow run . && mlflow run . -e evaluate
    mlflow run . -e pretrained -P naive=<id of a naive run>
    python -m scripts.pictures         # needs Chromium

Every picture shows what such a run logged, or birds that its model was not trained on.
`scripts.page_picture` makes that of the web page.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import sync_playwright

from colorization.config import VARIANTS, tunable_fields
from scripts.painter.scene import paint

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
STORE = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT}/mlflow.db")
FIRST = "pix2pix_efficientnet"  # what the README's first training trains
SHOWN = {  # seeds that are not in the sample
    "Robin": 81,
    "Bluetit": 81,
    "Long_Tailed_Tit": 71,
    "Starling": 71,
    "Goldfinch": 81,
    "Wren": 61,
}
SIZE = 240
GAP = 6
SHEETS = {  # the sheet of a run, by its name
    "compare": "test_pictures.png",
    "evaluate": "pictures.png",
    "naive_pretrained": "test_pictures.png",
}
SHEET_WIDTH = 1400


def main():
    """Write docs/*.jpg but app.jpg, and docs/*.png."""
    client = mlflow.MlflowClient(STORE)
    query = f"tags.variant = '{FIRST}' and params.data = 'sample'"
    query += " and attributes.status = 'FINISHED'"
    run = next(filter(has_defaults, client.search_runs(["0"], query)), None)
    if run is None:
        sys.exit(f"No such run in {STORE}. Expected a finished one: `mlflow run . -e {FIRST}`.")
    paint_lead(client, run).save(DOCS / "birds.jpg", quality=90)
    for name, artifact in SHEETS.items():
        shrink_sheet(client, name, artifact).save(DOCS / f"{name}.jpg", quality=85)
    color_folder(client, run).save(DOCS / "colorize.jpg", quality=90)
    shutil.copy(client.download_artifacts(run.info.run_id, "test_pictures.png"), DOCS)
    with mlflow_ui() as url:
        images = client.list_artifacts(run.info.run_id, "images")
        steps = len({image.path.partition("+step+")[2].partition("+")[0] for image in images})
        photograph_ui(f"{url}/#/experiments/0/runs/{run.info.run_id}", steps)


def has_defaults(run):
    """Tell whether a run has the defaults of the README's first training."""
    config = VARIANTS[FIRST]
    defaults = {spec.name: str(getattr(config, spec.name)) for spec in tunable_fields(config)}
    return defaults.items() <= run.data.params.items()


def paint_lead(client, run):
    """Return birds as one picture: gray, as the run's model colors them, as painted."""
    (model,) = client.search_logged_models(["0"], f"source_run_id = '{run.info.run_id}'")
    mlflow.set_tracking_uri(STORE)
    colorizer = mlflow.pyfunc.load_model(model.model_uri)
    painted = [paint(name, seed, SIZE) for name, seed in SHOWN.items()]
    grays = [image.convert("L") for image in painted]
    answer = colorizer.predict(pd.DataFrame({"image": [encode(gray) for gray in grays]}))
    colored = [Image.open(io.BytesIO(data)) for data in answer["image"]]
    lead = Image.new("RGB", (len(SHOWN) * (SIZE + GAP) - GAP, 3 * (SIZE + GAP) - GAP), "white")
    for row, images in enumerate((grays, colored, painted)):
        for column, image in enumerate(images):
            lead.paste(image.convert("RGB"), (column * (SIZE + GAP), row * (SIZE + GAP)))
    return lead


def shrink_sheet(client, name, artifact):
    """Return the sheet that the latest run of this name has logged, in the page's width."""
    query = f"attributes.run_name = '{name}' and params.data = 'sample'"
    query += " and attributes.status = 'FINISHED'"
    runs = client.search_runs(["0"], query, max_results=1)
    if not runs:
        sys.exit(f"No such run in {STORE}. Expected a finished one on the sample: {name}.")
    sheet = Image.open(client.download_artifacts(runs[0].info.run_id, artifact)).convert("RGB")
    return sheet.resize((SHEET_WIDTH, round(sheet.height * SHEET_WIDTH / sheet.width)))


def color_folder(client, run):
    """Return a folder of gray paintings above the colored one of `serve.batch`, with names."""
    with tempfile.TemporaryDirectory() as parent:
        gray, colored = Path(parent, "old_album"), Path(parent, "in_color")
        gray.mkdir()
        for name, seed in SHOWN.items():
            paint(name, seed, SIZE).convert("L").save(gray / f"{name.lower()}.jpg", quality=92)
        command = [sys.executable, "-m", "serve.batch", "--model", run.info.run_id]
        command += ["--input", str(gray), "--output", str(colored)]
        environment = os.environ | {"MLFLOW_TRACKING_URI": STORE}
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
        captions = [path.name for path in sorted(gray.iterdir())]
        columns = {
            folder.name: [np.asarray(Image.open(path).convert("RGB")) for path in sorted(files)]
            for folder in (gray, colored)
            if (files := list(folder.iterdir()))
        }
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    grid = figure.subplots(2, len(captions))
    for row, (folder, images) in zip(grid, columns.items(), strict=True):
        for axes, image, caption in zip(row, images, captions, strict=True):
            axes.imshow(image)
            axes.axis("off")
            axes.set_title(f"{folder}/\n{caption}", fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, dpi=110)
    return Image.open(data).convert("RGB")


def encode(image):
    """Return a picture as PNG bytes."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


@contextmanager
def mlflow_ui():
    """Serve the store's UI on loopback; give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [*command, "--backend-store-uri", STORE], env=environment, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{url}/health").close()
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def photograph_ui(page_url, steps):
    """Take screenshots of a run's pages: its overview, and its curves with the last pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(page_url)
        page.get_by_text("Model training", exact=True).click()
        page.get_by_role("button", name="Close").click()  # the assistant's panel
        page.goto(page_url)
        page.get_by_text("Show more").click(timeout=60_000)
        page.wait_for_timeout(3000)
        page.screenshot(path=DOCS / "ui_run.png")
        page.goto(f"{page_url}/model-metrics")
        page.locator("img[src*='get-artifact']").first.wait_for(timeout=60_000)  # of step 0
        for slider in page.get_by_role("slider").all():
            for _ in range(steps - 1):  # up to the last epoch's pictures
                slider.press("ArrowRight")
                page.wait_for_timeout(300)
        page.wait_for_timeout(3000)
        page.screenshot(path=DOCS / "ui_metrics.png")
        browser.close()


if __name__ == "__main__":
    main()
