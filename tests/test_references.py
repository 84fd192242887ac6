"""What people type in the place of weights: links of Google Drive, runs and models of MLflow."""

import dataclasses
from urllib.parse import parse_qs, urlsplit

import keras
import mlflow
import numpy as np
import pytest
from keras import layers

from colorization import experiment
from colorization.config import VARIANTS
from colorization.models import build
from colorization.registry import lookup
from colorization.weights import download, safe_keras
from colorization.weights import drive as drive_links
from tests import test_pretrained
from tests.test_pretrained import ATTACHED, DRIVE_ID, HTML, QUOTA, SIGN_IN, kept

certificate, drive = test_pretrained.certificate, test_pretrained.drive
empty_cache = test_pretrained.empty_cache

KEY = "0-aBcDeFgHiJkLmNoPqRsT"
OTHER_ID = "1ZyXwVuTsRqPoNmLkJiHgFeDcBa987654"
FOLDER_ID = "1FoLdErFoLdErFoLdErFoLdErFoLd1234"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The content of a Keras file."""
    path = tmp_path_factory.mktemp("file") / "network.h5"
    keras.Sequential([keras.Input((32, 32, 1)), layers.Conv2D(3, 1)]).save(path)
    return path.read_bytes()


def served(server, content):
    server.pages["/uc"] = server.pages["/download"] = (200, ATTACHED, content, None)


# Google Drive


@pytest.mark.parametrize(
    "link",
    [
        f" {DRIVE_ID}\n",
        f"drive.google.com/file/d/{DRIVE_ID}/view",
        f"drive.google.com/file/d/{DRIVE_ID}",
        f"\thttps://drive.google.com/open?id={DRIVE_ID} ",
        f"drive.google.com/open?usp=drive_link&id={DRIVE_ID}",
        f"//drive.google.com/uc?id={DRIVE_ID}",
        f"http://drive.google.com/uc?export=download&id={DRIVE_ID}&confirm=t",
        f"https://drive.google.com/file/u/1/d/{DRIVE_ID}/edit?usp=sharing",
        f"https://drive.google.com/a/museum.org/file/d/{DRIVE_ID}/view",
        f"HTTPS://Drive.Google.com/file/d/{DRIVE_ID}/preview",
        f"drive.usercontent.google.com/download?id={DRIVE_ID}&export=download",
        f"www.drive.google.com/file/d/{DRIVE_ID}/view",
        f"<https://drive.google.com/file/d/{DRIVE_ID}/view>",
        f'"https://drive.google.com/uc?export=download&amp;id={DRIVE_ID}"',
        f"id={DRIVE_ID}",
    ],
)
def test_a_link_of_drive_is_understood_in_every_form(link, drive, empty_cache, file):
    served(drive, file)
    assert download.fetch(link).read_bytes() == file
    assert drive.asked == [f"/uc?id={DRIVE_ID}"]
    assert kept(empty_cache) == [f"drive-{DRIVE_ID}", "weights", "weights"]


@pytest.mark.parametrize(
    "link",
    [
        f"https://drive.google.com/file/d/{DRIVE_ID}/view?usp=sharing&resourcekey={KEY}",
        f"drive.google.com/open?resourcekey={KEY}&id={DRIVE_ID}",
        f"https://drive.google.com/uc?id={DRIVE_ID}&resourceKey={KEY}",
        f"{DRIVE_ID}?resourcekey={KEY}",
    ],
)
def test_the_resource_key_of_a_link_is_sent(link, drive, empty_cache, file):
    served(drive, file)
    assert download.fetch(link).read_bytes() == file
    (asked,) = drive.asked
    assert parse_qs(urlsplit(asked).query)["resourcekey"] == [KEY]
    assert parse_qs(urlsplit(asked).query)["id"] == [DRIVE_ID]
    assert KEY not in download.shown(download.resolve(link))


@pytest.mark.parametrize(
    ("page", "kind", "message"),
    [
        ((404, HTML, b"<html>", None), PermissionError, "resourcekey is missing or wrong"),
        ((403, HTML, b"<html>", None), PermissionError, "resourcekey is missing or wrong"),
        ((200, HTML, SIGN_IN, None), PermissionError, "resourcekey is missing or wrong"),
        ((200, HTML, QUOTA, None), ConnectionError, "quota page instead of the file"),
        ((503, HTML, b"<html>", None), ConnectionError, "server fails.*status 503"),
    ],
)
def test_a_file_that_is_denied_names_the_resource_key(
    page,
    kind,
    message,
    drive,
    empty_cache,
):
    drive.pages["/download"] = page
    with pytest.raises(kind, match=message) as denied:
        download.fetch(f"drive.google.com/file/d/{DRIVE_ID}/view?resourcekey={KEY}")
    assert KEY not in str(denied.value)
    assert kept(empty_cache) == ["weights"]


def listed(*names):
    """A folder as Drive shows it for embedding."""
    ids = dict(zip(names, (DRIVE_ID, OTHER_ID), strict=False))
    links = [f'<a href="https://drive.google.com/file/d/{ids[n]}/view">{n}</a>' for n in names]
    page = f"<html><head><title>birds</title></head><body>{''.join(links)}</body></html>"
    return (200, HTML, page.encode(), None)


@pytest.mark.parametrize(
    "link",
    [
        f"https://drive.google.com/drive/folders/{FOLDER_ID}?usp=sharing",
        f" drive.google.com/drive/u/0/folders/{FOLDER_ID} ",
        f"https://drive.google.com/embeddedfolderview?id={FOLDER_ID}#list",
    ],
)
def test_the_only_network_of_a_folder_is_downloaded(link, drive, empty_cache, file):
    drive.pages["/embeddedfolderview"] = listed("notes.txt", "Generator.KERAS")
    served(drive, file)
    assert download.fetch(link).read_bytes() == file
    assert drive.asked == [f"/embeddedfolderview?id={FOLDER_ID}", f"/uc?id={OTHER_ID}"]
    assert download.fetch(link).read_bytes() == file
    assert len(drive.asked) == 2


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (
            listed("naive.h5", "gan.keras"),
            f"2 Keras files.*'naive.h5' .id {DRIVE_ID}., 'gan.keras'",
        ),
        (listed("notes.txt"), "0 Keras files.*'notes.txt'"),
        (listed(), "0 Keras files.*no files"),
        ((404, HTML, b"<html>", None), "does not list the folder.*resourcekey"),
        ((200, HTML, b"", None), "does not list the folder.*resourcekey"),
    ],
)
def test_a_folder_without_one_network_is_a_sentence_that_lists_it(
    page,
    message,
    drive,
    empty_cache,
):
    drive.pages["/embeddedfolderview"] = page
    with pytest.raises(ValueError, match=message) as refused:
        download.fetch(f"drive.google.com/drive/folders/{FOLDER_ID}?resourcekey={KEY}")
    assert f"folders/{FOLDER_ID}" in str(refused.value) and KEY not in str(refused.value)
    assert kept(empty_cache) == ["weights"]


@pytest.mark.parametrize("host", ["drive.google.com.example", "a.example/drive.google.com"])
def test_another_host_is_not_taken_for_drive(host):
    with pytest.raises(FileNotFoundError, match="no such weights"):
        download.fetch(f"{host}/file/d/{DRIVE_ID}/view")
    assert drive_links.parse(f"https://{host}/file/d/{DRIVE_ID}/view") is None


# Runs and models


CONFIG = dataclasses.replace(VARIANTS["naive_basic"], filters=4)


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]):
        return model_input


@pytest.fixture
def run_id(active_store, tmp_path):
    """A run with weights and a model, registered twice: the alias is on the second version."""
    build.build_plain(CONFIG, 128).save(tmp_path / "generator.keras")
    with mlflow.start_run() as run:
        mlflow.log_artifact(tmp_path / "generator.keras", "keras")
        model = mlflow.pyfunc.log_model(name="model", python_model=Echo(), pip_requirements=[])
    client = mlflow.MlflowClient()
    client.create_registered_model("birds")
    for _ in range(2):
        client.create_model_version("birds", model.model_uri, run.info.run_id)
    client.set_registered_model_alias("birds", "champion", "2")
    return run.info.run_id


def test_runs_and_models_give_their_weights_and_are_logged_as_the_run(run_id, splits, empty_cache):
    (model,) = mlflow.search_logged_models(output_format="list")
    names = ["models:/birds/2", "models:/birds@champion", " models:/birds/latest "]
    names += [f"models:/{model.model_id}", f"runs:/{run_id}", f"runs:/{run_id}/model"]
    names += [f"runs:/{run_id}/keras/generator.keras", f" {run_id}\n"]
    expected = [each.shape for each in build.build_plain(CONFIG, 128).weights]
    for name in names:
        start = experiment.starting_weights(CONFIG, splits, name)
        assert start.origin == run_id, name
        assert [each.shape for each in start.arrays] == expected
    assert kept(empty_cache) == [f"run-{run_id}", "weights", "weights"]


def test_an_alias_that_has_moved_on_does_not_hide_what_the_weights_have_seen(run_id):
    with mlflow.start_run() as later:
        mlflow.log_param("start_from", "'models:/birds@champion'")  # as `mlflow run` does
        mlflow.set_tag("start_from", download.resolve("models:/birds@champion"))
    mlflow.MlflowClient().delete_registered_model("birds")
    assert lookup.start_of(mlflow.get_run(later.info.run_id)) == run_id


def test_the_keras_files_of_other_runs_and_models_are_found(active_store, empty_cache, tmp_path):
    other = keras.Sequential([keras.Input((32, 32, 1)), layers.Conv2D(3, 1)])
    other.save(tmp_path / "other.h5")
    with mlflow.start_run() as run:
        mlflow.log_artifact(tmp_path / "other.h5", "best")
        model = mlflow.tensorflow.log_model(other, name="net", pip_requirements=[])
    for name in (f"runs:/{run.info.run_id}/best/other.h5", model.model_uri):
        loaded = safe_keras.load(download.fetch(name))
        np.testing.assert_array_equal(loaded.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models:/nobody/1", "There is no such model. Expected models:/<name>/<version>.*nobody"),
        ("models:/nobody@champion", "There is no such model"),
        ("models:/", "There is no such model"),
        (f"runs:/{'0' * 32}", f"no such weights.*keras/generator.keras.*{'0' * 32}"),
        ("runs:/nothing", "no such weights"),
    ],
)
def test_a_run_or_model_that_is_not_there_is_a_sentence(name, message, active_store, empty_cache):
    with pytest.raises(ValueError, match=message):
        download.fetch(name)
