"""The link that a training ends with opens the table in which the best run comes first."""

import json
import shutil

import mlflow
import pytest

from colorization.registry import promotion
from colorization.registry.lookup import Candidate

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
COLUMNS = """cells => cells.sort((a, b) => a.ariaColIndex - b.ariaColIndex)
    .map(cell => cell.getAttribute("col-id"))"""
BEST_FIRST = ["winner", "naive_deep", "naive_basic", "naive_pretrained"]


def log(client, experiment, name, best=None, tested=9.0, **tags):
    """Log a run with what a training leaves for the table."""
    tags = {"family": "naive", "variant": name, "dataset_digest": "0123456789"} | tags
    run_id = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    client.log_param(run_id, "size", 128)
    for metric, value in {"val/best_delta_e": best, "test_delta_e": tested}.items():
        if value is not None:
            client.log_metric(run_id, metric, value)
    client.set_terminated(run_id)
    return Candidate(client.get_run(run_id), "")


def fill(client, experiment):
    """Log rivals, and what is none; return one of the rivals."""
    rival = log(client, experiment, "naive_basic", 12.0)
    log(client, experiment, "winner", 8.0, variant="naive_deep")
    log(client, experiment, "naive_deep", 10.0, tested=7.0)
    log(client, experiment, "naive_pretrained")
    log(client, experiment, "trial 0", 7.0, tested=None)
    log(client, experiment, "other pictures", 1.0, dataset_digest="abc")
    log(client, experiment, "pix2pix", 1.0, family="pix2pix")
    log(client, experiment, "page", tested=None, family="", kind="tool")
    return rival


def test_the_view_holds_the_rivals_alone_and_the_best_comes_first(active_store):
    client = mlflow.MlflowClient()
    rival = fill(client, "0")
    link = promotion.link(rival)
    key = link.partition("viewStateShareKey=")[2]
    view = json.loads(client.get_experiment("0").tags[promotion.SHARED_VIEW + key])
    order = f"{view['orderByKey']} {'ASC' if view['orderByAsc'] else 'DESC'}"
    found = client.search_runs(["0"], view["searchFilter"], order_by=[order])
    assert [run.info.run_name for run in found] == BEST_FIRST
    assert view["selectedColumns"][:3] == [
        "tags.`variant`",
        "metrics.`val/best_delta_e`",
        "metrics.`test_delta_e`",
    ]


def test_without_a_server_the_link_begins_with_the_command_that_starts_one(
    active_store, tmp_path, monkeypatch
):
    rival = log(mlflow.MlflowClient(), "0", "naive_basic", 12.0)
    page = "/#/experiments/0/runs?workflowType=machine_learning&viewStateShareKey="
    assert promotion.link(rival).startswith(f"mlflow ui, then http://127.0.0.1:5000{page}")
    monkeypatch.chdir(tmp_path.parent)
    assert promotion.link(rival).startswith(f"mlflow ui --backend-store-uri {active_store}, then")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `apt-get install chromium`")
def test_mlflow_s_own_table_shows_it(tracking_server):
    sync_api = pytest.importorskip("playwright.sync_api")
    client = mlflow.MlflowClient(tracking_server)
    rival = fill(client, client.create_experiment("leaderboard"))
    mlflow.set_tracking_uri(tracking_server)
    link = promotion.link(rival)
    mlflow.set_tracking_uri(None)
    assert link.startswith(f"{tracking_server}/#/experiments/")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(link)
        sync_api.expect(page.get_by_text("4 matching runs")).to_be_visible(timeout=60_000)
        sync_api.expect(page.get_by_role("link", name="winner")).to_be_visible()
        sync_api.expect(page.get_by_text("test_delta_e").first).to_be_visible()
        links = page.get_by_role("link").all_inner_texts()
        columns = page.locator(".ag-header-cell").evaluate_all(COLUMNS)
        browser.close()
    assert [name for name in links if name in (*BEST_FIRST, "page", "trial 0")] == BEST_FIRST
    assert ["tags.`variant`", "metrics.`val/best_delta_e`", "metrics.`test_delta_e`"] == [
        name for name in columns if name and name.startswith(("tags", "metrics"))
    ][:3]
