"""The page as visitors meet it: a real server, a real registry, a real browser."""

import copy
import io
import os
import re
import shutil
import signal
import socket
import sys
import zipfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from keras import layers
from mlflow.exceptions import MlflowException
from mlflow.types.schema import ParamSchema
from PIL import Image

from colorization import charts, color, evaluation, tracking
from colorization.pictures.formats import READABLE
from colorization.registry import lookup, promotion
from serve.page.__main__ import main
from serve.page.champions import Champions
from serve.page.events import Page, read_examples
from tests import warm
from tests.conftest import ROOT, _wait_for

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium: `apt-get install chromium`", allow_module_level=True)

MAX_PIXELS = 1_000_000
FAMILIES = ("naive", "pix2pix")
LEFT_TO_RIGHT = np.linspace(60, -60, 128)[:, None] * [1, 0, 0]  # red, then its contrary
BLUE = np.full((128, 1), 60) * [0, 0, 1]
OLD_SIGNATURE = copy.copy(tracking.SIGNATURE)  # of models from before there were hints
OLD_SIGNATURE.params = ParamSchema(tracking.SIGNATURE.params.params[:5])


@pytest.fixture(scope="module")
def app(tracking_server, trained, versions, cache, tmp_path_factory):
    """The address of `python -m serve.page`, which SIGTERM ends well and without leavings."""
    for family in FAMILIES:  # or the page would register those of the project first
        promote(trained[0], family, versions[family].version)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("app") / "log"
    with open(log, "wb") as output:
        process = warm.Popen(
            [sys.executable, "-m", "serve.page", "--port", str(port)],
            env=os.environ
            | {
                "MLFLOW_TRACKING_URI": tracking_server,
                "COLORIZATION_CACHE": str(cache),
                "COLORIZER_MAX_PIXELS": str(MAX_PIXELS),
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(log.parent),
            },
            cwd=log.parent,
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    assert log.read_text().startswith(f"The page is at {url}\n")
    assert "Traceback" not in log.read_text()
    assert not {".png", ".jpg"} & {path.suffix for path in log.parent.rglob("*")}


@pytest.fixture(scope="module")
def versions(trained, tracking_server, tmp_path_factory):
    """One naive version, which was trained, and two of pix2pix, which only tint."""
    client, run = trained
    before = {family: champion_of(client, family) for family in FAMILIES}
    mlflow.set_tracking_uri(tracking_server)
    try:
        naive, _ = promotion.register(lookup.find(run.info.run_id), force=True)
        tints = [
            register_tint(offset, signature, tmp_path_factory.mktemp("tint"))
            for offset, signature in ((LEFT_TO_RIGHT, tracking.SIGNATURE), (BLUE, OLD_SIGNATURE))
        ]
        yield {"naive": naive, "pix2pix": tints[0], "newer": tints[1]}
    finally:
        mlflow.set_tracking_uri(None)
        for family, number in before.items():
            promote(client, family, number)


def champion_of(client, family):
    with suppress(MlflowException):
        return client.get_model_version_by_alias(lookup.model_name(family), "champion").version


def register_tint(offset, signature, folder):
    """Register a network that adds to the gray one color a column; it asks for gray as RGB."""
    grays = keras.Input((128, 128, 3))
    tinted = layers.ReLU(max_value=255.0)(layers.Rescaling(1.0, offset.astype("float32"))(grays))
    network = keras.Model(grays, tinted)
    network(np.zeros((1, 128, 128, 3), "float32"))
    network.export(folder / "generator.onnx", format="onnx", verbose=False)
    # Not `set_experiment`, which would outlast this file, also in the processes of other tests.
    experiment = mlflow.create_experiment(f"tints {folder.name}")
    with mlflow.start_run(experiment_id=experiment):
        mlflow.set_tags({"family": "pix2pix", "variant": "pix2pix", "data_kind": "painted"})
        mlflow.log_input(mlflow.data.from_numpy(np.zeros(1)), context="training")
        model = mlflow.pyfunc.log_model(
            name="model",
            **tracking.MODEL_CODE,
            artifacts={"generator": str(folder / "generator.onnx")},
            signature=signature,
            pip_requirements=[f"{name}=={version(name)}" for name in tracking.REQUIREMENTS],
        )
    forced = {"forced": "yes"}  # of paintings only, and yet a person wants it
    return mlflow.register_model(model.model_uri, lookup.model_name("pix2pix"), tags=forced)


def promote(client, family, number):
    """Make a version champion; None: no version is."""
    name = lookup.model_name(family)
    if number is None:
        with suppress(MlflowException):
            client.delete_registered_model_alias(name, "champion")
    else:
        client.set_registered_model_alias(name, "champion", number)


@pytest.fixture
def champions(trained, versions):
    """A function that makes these versions the champions, and no other."""
    client, _ = trained

    def choose(**chosen):
        for family in FAMILIES:
            promote(client, family, family in chosen and versions[chosen[family]].version or None)

    choose(naive="naive", pix2pix="pix2pix")
    return choose


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser):
    """One visitor, who need not load the page's scripts for each test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    yield context
    context.close()


@pytest.fixture
def page(context, app, champions):
    """The page, opened; whatever it asks of another server is an error."""
    foreign = []
    page = context.new_page()
    page.on("request", lambda request: foreign.append(request.url))
    page.goto(app)
    expect(page.get_by_role("heading", name="The models on this page")).to_be_visible()
    yield page
    page.close()
    assert [url for url in foreign if not url.startswith((app, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def painting(paintings):
    """One painted bird, 256 x 256."""
    return sorted(paintings.rglob("*.jpg"))[0]


def drop(page, *files):
    page.locator(".drop input[type=file]").set_input_files(files)


def status(page):
    """What the page says of itself; Gradio has another such place outside of `main`."""
    return page.get_by_role("main").get_by_role("status")


def shown(page, title):
    """The picture of the first article that has this title under it."""
    return page.locator("figure", has=page.get_by_text(title, exact=True)).locator("img").first


def look(page, image):
    """Return what a picture on the page shows, as the browser gets it."""
    expect(image).to_be_visible()
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth")
    return Image.open(io.BytesIO(page.request.get(image.evaluate("e => e.src")).body()))


def luma(image):
    return np.asarray(image.convert("RGB").convert("L"), int)


def chroma(image):
    rgb = np.asarray(image.convert("RGB"), int)
    return np.abs(rgb - rgb.mean(axis=-1, keepdims=True)).mean()


def mean_chroma(image):
    return color.chroma(np.asarray(image.convert("RGB"))).mean(axis=(0, 1))


def test_an_upload_stands_gray_and_colored_side_by_side_with_its_own_luma(page, painting):
    drop(page, painting)
    real = Image.open(painting)
    for title in ("gray", "naive", "pix2pix"):
        picture = look(page, shown(page, title))
        assert picture.size == real.size
        assert np.abs(luma(picture) - luma(real)).max() <= 2
    assert chroma(look(page, shown(page, "gray"))) == 0
    assert chroma(look(page, shown(page, "pix2pix"))) > 10
    lefts = [shown(page, title).bounding_box()["x"] for title in ("gray", "naive", "pix2pix")]
    assert lefts == sorted(set(lefts))
    red = np.asarray(look(page, shown(page, "pix2pix")), int)[..., 0] - luma(real)
    assert red[:, :100].mean() > 10 and red[:, -100:].mean() < -10


def test_the_scores_are_those_of_the_upload_at_the_size_of_training(page, painting, tmp_path):
    upright = Image.open(painting).resize((300, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    sideways.save(tmp_path / "sideways.png", exif=exif)
    drop(page, tmp_path / "sideways.png")
    expect(page.get_by_role("article")).to_contain_text("300 × 200")
    colored = look(page, shown(page, "naive"))
    small = [image.resize((128, 128), Image.Resampling.LANCZOS) for image in (upright, colored)]
    real, naive = (np.asarray(image)[None] for image in small)
    for name, predicted in {"naive": naive, "plain gray": color.gray_input(real, 3)}.items():
        expected = evaluation.mean_scores(evaluation.score_each(real, predicted))
        row = page.get_by_role("row", name=name).get_by_role("cell").all_inner_texts()
        named = [expected[metric] for metric in ("psnr", "ssim", "delta_e", "colorfulness")]
        assert [float(text) for text in row] == pytest.approx(named, abs=0.03)
    expect(page.get_by_role("table")).to_contain_text("128 × 128")


def test_a_gray_upload_is_colored_and_not_scored(page, painting, tmp_path):
    gray = Image.open(painting).convert("L")
    values = np.asarray(gray, np.uint16) * 257
    Image.fromarray(values).save(tmp_path / "deep.png")
    drop(page, tmp_path / "deep.png")
    assert np.abs(luma(look(page, shown(page, "pix2pix"))) - luma(gray)).max() <= 2
    expect(page.get_by_role("article")).to_contain_text("no colors of its own")
    expect(page.get_by_role("table")).to_have_count(0)
    expect(page.get_by_text("original", exact=True)).to_have_count(0)


def test_the_download_is_a_png_in_full_size_with_a_telling_name(page, painting, versions, tmp_path):
    large = Image.open(painting).resize((1600, 600))
    large.save(tmp_path / "Wren (3) äöü.tiff")
    drop(page, tmp_path / "Wren (3) äöü.tiff")
    assert look(page, shown(page, "naive")).width < 1600
    name = f"Wren (3) äöü-naive-v{versions['naive'].version}.png"
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Download {name}").click()
    assert download.value.suggested_filename == name
    picture = Image.open(download.value.path())
    assert (picture.format, picture.size) == ("PNG", (1600, 600))
    assert np.abs(luma(picture) - luma(large)).max() <= 2


def test_the_slider_moves_by_key_and_by_mouse_and_compares_any_two(page, painting):
    drop(page, painting)
    slider = page.get_by_role("slider", name="Where the right picture")
    right = page.locator(".slider img.right:visible")
    expect(right).to_have_class("right pix2pix")
    expect(right).to_have_css("clip-path", "inset(0px 0px 0px 50%)")
    slider.press("ArrowRight")
    expect(right).to_have_css("clip-path", "inset(0px 0px 0px 51%)")
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] / 4, "y": box["height"] / 2})
    expect(right).to_have_css("clip-path", re.compile(r"inset\(0px 0px 0px 2[3-7]%\)"))
    views = ("gray", "naive", "pix2pix", "original")
    for side in ("left", "right"):
        for view in views:
            page.get_by_role("group", name=side).get_by_text(view, exact=True).click()
            image = page.locator(f".slider img.{side}:visible")
            expect(image).to_have_attribute("src", shown(page, view).get_attribute("src"))
    page.get_by_role("group", name="right").get_by_label("original").press("ArrowLeft")
    expect(right).to_have_class("right pix2pix")


def test_saturation_and_the_mirror_image_change_the_result(page, painting):
    drop(page, painting)
    full = look(page, shown(page, "pix2pix"))
    source = shown(page, "pix2pix").get_attribute("src")
    page.get_by_label("number input for Saturation").fill("0.5")
    page.keyboard.press("Enter")
    expect(shown(page, "pix2pix")).not_to_have_attribute("src", source)
    half = look(page, shown(page, "pix2pix"))
    assert chroma(half) == pytest.approx(chroma(full) / 2, rel=0.1)
    source = shown(page, "pix2pix").get_attribute("src")
    page.get_by_label("Average with the mirror image").check()
    expect(shown(page, "pix2pix")).not_to_have_attribute("src", source)
    assert chroma(look(page, shown(page, "pix2pix"))) < 1  # red left and right are nothing


def test_hints_are_clicked_moved_and_taken_from_another_picture(page, painting, tmp_path):
    drop(page, painting)
    picture = shown(page, "pix2pix")
    before = picture.get_attribute("src")
    warmth, tint = (page.get_by_label(f"number input for {name}") for name in ("Warmth", "Tint"))
    page.get_by_role("button", name="more orange, greener").click()
    expect(picture).not_to_have_attribute("src", before)
    expect(page.locator("[aria-pressed=true]")).to_have_attribute("title", "more orange, greener")
    assert (warmth.input_value(), tint.input_value()) == ("0.2", "-0.2")
    before = picture.get_attribute("src")
    warmth.fill("-1")
    expect(picture).not_to_have_attribute("src", before)
    assert mean_chroma(look(page, picture))[0] > 20  # Cb
    expect(page.locator("[aria-pressed=true]")).to_have_count(0)
    before = picture.get_attribute("src")
    Image.new("RGB", (40, 30), "#a07a70").save(tmp_path / "brown.png")
    page.locator(".hints input[type=file]").set_input_files(tmp_path / "brown.png")
    expect(picture).not_to_have_attribute("src", before)
    wanted = color.chroma(np.array([0xA0, 0x7A, 0x70]))
    assert mean_chroma(look(page, picture)) == pytest.approx(wanted, abs=3)
    (tmp_path / "notes.txt").write_text("no picture")
    page.locator(".hints input[type=file]").set_input_files(tmp_path / "notes.txt")
    sentence = f"notes.txt is not {READABLE}."
    expect(page.get_by_text(sentence)).to_be_visible()
    page.get_by_role("button", name="Robin").click()
    for hint in (warmth, tint):  # they were for the picture before
        expect(hint).to_have_value("0")


def test_a_variation_is_what_its_hints_give(versions, champions, painting, tmp_path):
    page = Page(tmp_path)
    upload = shutil.copy(painting, page.uploads)
    *_, (*_, strip, folder) = page.color([upload], False, 1.0, 0.2, 0.0, False, None)
    assert re.findall(r'aria-pressed="(\w+)"', strip) == ["false"] * 5 + ["true"] + ["false"] * 3
    small = [Image.open(Path(folder) / f"variation-{number}.webp") for number in range(9)]
    *_, (*_, before) = page.color([upload], False, 1.0, -0.2, -0.2, False, folder)
    (download,) = Path(before).glob("0/*-pix2pix-*.png")
    real = Image.open(download)
    assert mean_chroma(small[0]) == pytest.approx(mean_chroma(real), abs=1.5)
    assert np.abs(mean_chroma(small[8]) - mean_chroma(real)).max() > 10


def test_a_heat_map_shows_where_each_model_is_unsure(page, painting):
    drop(page, painting)
    expect(page.get_by_role("article")).to_be_visible()
    unsure = page.get_by_role("img", name="Where pix2pix is unsure")
    expect(unsure).to_have_count(0)
    page.get_by_label("Show where the models are unsure").check()
    heat = look(page, unsure)
    assert heat.size == Image.open(painting).size
    top = luma(heat)[:100]  # above the color bar; the tint differs from its mirror at the sides
    assert top[:, :40].mean() > top[:, 108:148].mean() + 100
    expect(page.get_by_role("img", name="Where naive is unsure")).to_be_visible()


def test_models_from_before_hints_are_served_without_them(page, champions, painting):
    expect(page.get_by_label("Show where the models are unsure")).to_be_visible()
    champions(pix2pix="newer")
    page.reload()
    drop(page, painting)
    assert look(page, shown(page, "pix2pix")).size == (256, 256)
    expect(page.get_by_label("number input for Saturation")).to_be_visible()
    for name in ("Warmth", "Tint", "Show where the models are unsure"):
        expect(page.get_by_label(name)).to_have_count(0)


def test_a_picture_is_pasted(page, app):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=app)
    page.evaluate("""async () => {
      const canvas = new OffscreenCanvas(60, 40);
      canvas.getContext("2d").fillRect(0, 0, 30, 40);
      const png = await canvas.convertToBlob();
      await navigator.clipboard.write([new ClipboardItem({"image/png": png})]);
    }""")
    page.keyboard.press("Control+V")
    expect(page.get_by_role("article")).to_contain_text("60 × 40")


def test_pictures_are_dropped_anywhere_on_the_page(page, paintings):
    expect(page.get_by_role("heading", name="The models on this page")).to_be_visible()
    files = sorted(paintings.rglob("*.jpg"))[:2]
    content = [[f"{n}.jpg", list(file.read_bytes())] for n, file in enumerate(files)]
    transfer = page.evaluate_handle(
        """files => {
          const transfer = new DataTransfer();
          for (const [name, bytes] of files)
            transfer.items.add(new File([new Uint8Array(bytes)], name));
          return transfer;
        }""",
        content,
    )
    heading = page.get_by_role("heading", name="The models on this page")
    heading.dispatch_event("dragover", {"dataTransfer": transfer})
    expect(page.locator("body.dragging")).to_have_count(1)
    heading.dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.locator("body.dragging")).to_have_count(0)
    expect(page.get_by_role("article")).to_have_count(2)


def test_pictures_appear_one_by_one_with_progress(champions, paintings, tmp_path):
    page = Page(tmp_path)
    uploads = [shutil.copy(file, page.uploads) for file in sorted(paintings.rglob("*.jpg"))[:2]]
    yielded = list(page.color(uploads, False, 1.0, 0.0, 0.0, False, None))
    progress = [re.findall(r'<progress max="2" value="(.+?)"', status) for status, *_ in yielded]
    assert progress == [["0.5"], ["1.5"], []]
    assert [str(shown).count("<article") for _, shown, *_ in yielded] == [0, 1, 2]


def test_results_are_kept_for_others_visits_and_deleted_when_the_visitor_leaves(
    champions, painting, tmp_path
):
    page = Page(tmp_path)
    options = [[shutil.copy(painting, page.uploads)], False, 1.0, 0.0, 0.0, False]
    *_, (*_, folder) = page.color(*options, None)
    (download,) = Path(folder).glob("0/*-pix2pix-*.png")
    os.utime(download, (0, 0))
    next(page.color(*options, None))  # another visitor's event
    assert download.exists()
    event = page.color(*options, folder)
    next(event)
    event.close()  # as Gradio does if a visitor leaves
    assert not Path(folder).exists()


def test_the_examples_come_with_their_photographers_and_licences(page):
    folder = ROOT / "assets" / "photographs"
    photographs = [each for each in read_examples() if not each.painted]
    assert {each.path for each in photographs} == set(folder.glob("*.jpg"))
    section = page.get_by_role("region", name="Examples")
    for each in photographs:
        expect(section.get_by_role("button", name=each.name)).to_be_visible()
        assert f"{each.author}, {each.licence}" in section.inner_text()
    expect(section).to_contain_text("leave other pictures pale")
    section.get_by_role("button", name="Two dogs").click()
    expect(page.get_by_role("article")).to_contain_text("682 × 1024")


def test_several_pictures_come_with_a_gallery_and_one_download(page, paintings, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    first, second = sorted(paintings.rglob("*.jpg"))[:2]
    drop(page, first, tmp_path / "notes.txt", second)
    expect(status(page)).to_contain_text("Colored 2 pictures by naive and pix2pix.")
    expect(page.get_by_text(f"notes.txt is not {READABLE}.")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(2)
    page.get_by_role("navigation", name="Results").get_by_role("button").last.click()
    expect(page.get_by_role("heading", name=second.name).last).to_be_focused()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        links = page.get_by_role("article").get_by_role("link").all()
        assert archive.namelist() == [link.get_attribute("download") for link in links]
        assert len(set(archive.namelist())) == 4
        for name in archive.namelist():
            assert Image.open(archive.open(name)).size == (256, 256)


def test_pictures_of_equal_names_have_downloads_of_their_own(page, paintings, tmp_path):
    files = [tmp_path / "a" / "bird.jpg", tmp_path / "b" / "Bird.jpeg"]
    for file, painting in zip(files, sorted(paintings.rglob("*.jpg")), strict=False):
        file.parent.mkdir()
        shutil.copy(painting, file)
    drop(page, *files)
    expect(page.get_by_role("article")).to_have_count(2)
    links = page.get_by_role("article").get_by_role("link").all()
    names = [link.get_attribute("download") for link in links]
    stems = [re.sub(r"-v\d+\.png", "", name) for name in names]
    assert stems == ["bird-naive", "bird-pix2pix", "Bird-2-naive", "Bird-2-pix2pix"]


def test_only_a_model_that_knows_only_paintings_says_so_and_not_beside_an_example(page, painting):
    sentence = "Trained on painted birds only"
    page.get_by_role("button", name="Robin").click()
    expect(status(page)).to_contain_text("Colored Robin.jpg")
    expect(page.get_by_text(sentence)).to_have_count(0)
    drop(page, painting)
    expect(status(page)).to_contain_text(f"Colored {painting.name}")
    expect(page.locator("figure").get_by_text(sentence)).to_have_count(1)
    tinted = page.locator("figure", has=page.get_by_text("pix2pix", exact=True))
    expect(tinted.get_by_text(sentence)).to_be_visible()
    models = page.locator(".models").get_by_role("listitem")
    expect(models.filter(has_text="pix2pix")).to_contain_text("trained on painted birds")
    expect(models.filter(has_text="naive")).to_contain_text("trained on photographs")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.png", b"", "empty.png is empty."),
        ("broken.jpg", None, "broken.jpg is a broken or truncated JPEG."),
        ("large.png", (1001, 1000), "large.png has 1001 x 1000 pixels, above the limit of 1000000"),
    ],
)
def test_a_picture_that_cannot_be_colored_is_a_sentence(
    page, painting, tmp_path, name, content, sentence
):
    if isinstance(content, tuple):
        Image.new("L", content).save(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(painting.read_bytes()[:9000] if content is None else content)
    drop(page, tmp_path / name)
    expect(status(page)).to_contain_text(sentence)
    expect(page.get_by_role("article")).to_have_count(0)


def test_a_file_above_the_limit_is_a_sentence(page, tmp_path):
    with open(tmp_path / "huge.tiff", "wb") as file:
        file.truncate(65 * 2**20)
    drop(page, tmp_path / "huge.tiff")
    expect(page.get_by_text("exceed the maximum allowed size of 64").first).to_be_visible()


def test_without_a_champion_the_page_says_which_command_registers_one(page, champions):
    champions()
    page.reload()
    command = page.locator(".models").get_by_text("mlflow run . -e pretrained --env-manager uv")
    expect(command).to_have_count(2)
    page.get_by_role("button", name="Robin").click()
    expect(status(page)).to_contain_text("There is no pix2pix model yet.")
    expect(page.get_by_role("article")).to_have_count(0)


def test_one_family_works_without_the_other(page, champions, painting):
    champions(naive="naive")
    drop(page, painting)
    assert look(page, shown(page, "naive")).size == (256, 256)
    expect(
        page.get_by_role("article").get_by_text("There is no pix2pix model yet.")
    ).to_be_visible()
    compared = page.get_by_role("group", name="left").locator("label").all_inner_texts()
    assert [text.strip() for text in compared] == ["gray", "naive", "original"]


def test_a_newly_promoted_champion_appears_without_a_restart(page, champions, versions, painting):
    drop(page, painting)
    old, new = (versions[which] for which in ("pix2pix", "newer"))
    expect(page.get_by_role("article")).to_contain_text(f"version {old.version}")
    source = shown(page, "pix2pix").get_attribute("src")
    champions(naive="naive", pix2pix="newer")
    drop(page, painting)
    expect(shown(page, "pix2pix")).not_to_have_attribute("src", source)
    expect(page.get_by_role("article")).to_contain_text(f"version {new.version}")
    rgb = np.asarray(look(page, shown(page, "pix2pix")), int)
    assert (rgb[..., 2] - rgb[..., 0]).mean() > 30
    expect(page.locator(".models")).to_contain_text(
        f"bird-colorizer-pix2pix, version {new.version}"
    )


def test_each_model_s_run_is_a_link_into_the_ui(page, versions, tracking_server, trained):
    _, run = trained
    link = page.get_by_role("link", name=run.info.run_id)
    address = f"{tracking_server}/#/experiments/0/runs/{run.info.run_id}"
    expect(link).to_have_attribute("href", address)
    name = f"{lookup.model_name('naive')}, version {versions['naive'].version}"
    expect(page.locator(".models")).to_contain_text(name)
    own, gray = (charts.tested(run)[f"test_delta_e{suffix}"] for suffix in ("", "_gray"))
    expect(page.locator(".models")).to_contain_text(f"{own:.2f}, of plain gray {gray:.2f}")


def test_everything_is_reached_by_keyboard_and_has_a_name(page):
    page.get_by_role("button", name="Robin").focus()
    page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("Colored Robin.jpg")
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        tag = "e => e === document.body ? '' : e.tagName + ' ' + (e.type || '') + ' ' + e.innerText"
        reached.append(page.evaluate(f"({tag})(document.activeElement)"))
    text = "\n".join(reached)
    stops = (
        "Click to Upload",
        "Mountain meadow",
        "checkbox",
        "range",
        "radio",
        "Download",
        "A  Train",
    )
    for stop in stops:
        assert stop in text, text
    nameless = r"- (button|link|checkbox|radio|slider|spinbutton|img|article|table)(?! \")"
    tree = page.locator("main").aria_snapshot()
    found = [line for line in tree.splitlines() if re.search(nameless, line)]
    # The icon inside of Gradio's upload button has no name, and needs none: the button has one.
    assert [line.strip() for line in found] == ["- img"], tree


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(page, painting, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    drop(page, painting, painting)
    expect(page.get_by_role("article")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert shown(page, "gray").bounding_box()["width"] > 150


def test_a_registry_that_does_not_answer_is_a_sentence_without_its_password(monkeypatch, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(f"http://bird:secret@127.0.0.1:{port}")
    try:
        naive, pix2pix = Champions().slots()
    finally:
        mlflow.set_tracking_uri(None)
    sentence = f"The model registry at http://127.0.0.1:{port} cannot be read just now."
    assert (naive.champion, naive.problem, pix2pix.problem) == (None, sentence, sentence)
    assert "cannot be read" in caplog.text and "secret" not in caplog.text


def test_a_port_in_use_is_a_sentence(caplog):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    assert f"and a free port. Received: host='127.0.0.1', port={port}" in caplog.text
