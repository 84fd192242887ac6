"""Make the README's picture of the web page: an example, colored by the store's champions.

    python -m scripts.page_picture     # needs Chromium

The page is the real one, served for the moment from the store that MLFLOW_TRACKING_URI names.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parent.parent
STORE = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT}/mlflow.db")
EXAMPLE = "Dandelions"


def main():
    """Write docs/app.jpg."""
    with web_page() as url:
        picture = photograph(url)
    picture.save(ROOT / "docs" / "app.jpg", quality=88)


@contextmanager
def web_page():
    """Serve the page on loopback; give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "serve.page", "--port", str(port)],
        env=os.environ | {"MLFLOW_TRACKING_URI": STORE},
        cwd=ROOT,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(url).close()
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait()


def photograph(url):
    """Color the example as a visitor does; return what the visitor sees."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.get_by_role("button", name=EXAMPLE).click()
        article = page.get_by_role("article")
        expect(article.get_by_role("img")).to_have_count(4, timeout=120_000)  # of both families
        page.mouse.move(0, 0)
        for image in article.locator("img").all():
            expect(image).to_have_js_property("complete", True)
        picture = page.screenshot(full_page=True)
        browser.close()
    return Image.open(io.BytesIO(picture))


if __name__ == "__main__":
    main()
