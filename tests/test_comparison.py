"""`mlflow run .`: every variant beside every other, resumable."""

import dataclasses

import mlflow
import pytest

from colorization import figures
from colorization.__main__ import main, parse
from colorization.config import VARIANTS
from colorization.plan import compared
from colorization.registry import lookup


def test_what_is_named_is_compared_once_and_a_head_has_a_name_of_its_own():
    configs = compared("naive_deep, pix2pix_rgb,naive_deep,naive_efficientnet", "3")
    labels = ["naive_deep", "pix2pix_rgb", "naive_efficientnet"]
    assert [config.label for config in configs] == labels
    assert [config.head for config in configs] == ["chroma", "rgb", "histogram"]
    assert {config.epochs for config in configs} == {3}


def test_all_that_learn_from_nothing_are_compared_with_both_heads():
    labels = [config.label for config in compared(parse(["compare"]).variants, 1)]
    names = ["naive_basic", "naive_dropout", "naive_deep", "pix2pix"]
    assert labels == [f"{name}{head}" for name in names for head in ("", "_rgb")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "naive_deep,pix3pix"], "Received: variants='naive_deep,pix3pix'"),
        (["--variants", ""], "Expected one or more of naive_basic, naive_dropout"),
        (["--epochs", "0"], "Received: epochs='0'"),
    ],
)
def test_a_bad_choice_is_a_sentence_and_leaves_no_run(arguments, message, call, tmp_path):
    status, output = call(main, "compare", *arguments)
    assert status == 2
    assert message in output and "Traceback" not in output
    assert not (tmp_path / "mlflow.db").exists()


def test_a_run_from_before_there_was_a_choice_of_precision_had_the_default(ready_store):
    mlflow.set_tracking_uri(ready_store)
    config = dataclasses.replace(VARIANTS["pix2pix"], epochs=2)
    params = dataclasses.asdict(config)
    del params["precision"]
    with mlflow.start_run() as run:
        mlflow.log_params(params)
        mlflow.set_tag("variant", config.variant)
    assert lookup.config_of(mlflow.get_run(run.info.run_id)) == config


def test_curves_of_different_length_share_their_panels():
    long, short = {"dE": [9, 8, 7], "L1": [3, 2, 1]}, {"dE": [9], "L1": [3]}
    figure = figures.convergence({"no L1": {"dE": [5, 4]}, "long": long, "short": short})
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("dE", "L1")
    assert [list(line.get_xdata()) for line in first.lines] == [[1, 2], [1, 2, 3], [1]]
    assert [list(line.get_ydata()) for line in second.lines] == [[], [3, 2, 1], [3]]
    colors = [[line.get_color() for line in axes.lines] for axes in figure.axes]
    assert colors[0] == colors[1]  # the legend is of both


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_stopped(
    colorization, paintings, active_store, tmp_path
):
    arguments = ("compare", "--data", paintings, "--epochs", 1, "--size", 32)
    arguments += ("--variants", "naive_basic,naive_basic_rgb")
    process = colorization(*arguments, store=active_store, cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("naive_basic: test"):  # the first is done, the second is on its way
            break
    for line in process.stdout:
        if line.startswith("naive_basic_rgb  epoch 1/1"):  # its test is not done
            break
    process.kill()
    process.communicate(timeout=60)

    process = colorization(*arguments, store=active_store, cwd=tmp_path)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert output.count("was trained already") == 1
    client = mlflow.MlflowClient(active_store)
    (first,) = client.search_runs(["0"], "tags.variant = 'naive_basic' and params.head = 'chroma'")
    assert f"naive_basic: was trained already, run {first.info.run_id}" in output

    parent = client.search_runs(["0"], "attributes.run_name = 'compare'")[0]
    (second,) = client.search_runs(["0"], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert (parent.info.status, second.info.status) == ("FINISHED", "FINISHED")
    assert second.data.params["head"] == "rgb"
    assert f"naive_basic_rgb: goes on in run {second.info.run_id}" in output
    steps = [each.step for each in client.get_metric_history(second.info.run_id, "val/psnr")]
    assert steps == [1]
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"comparison.json", "test_species.json", "losses.png", "test_pictures.png"} <= names

    table = mlflow.load_table("comparison.json", run_ids=[parent.info.run_id])
    baselines = ["plain gray", "mean chroma", "shuffled chroma"]
    assert list(table["model"]) == ["naive_basic", "naive_basic_rgb", *baselines]
    row = table.iloc[1]
    assert row["psnr"] == pytest.approx(second.data.metrics["test_psnr"])
    assert row["parameters"] == float(second.data.tags["parameters"]) > 100_000
    assert row["seconds"] > 0 and row["images_per_second"] > 0
    assert table["delta_e"][2] == pytest.approx(lookup.candidate_of(second).score("_gray"))
    species = mlflow.load_table("test_species.json", run_ids=[parent.info.run_id])
    assert {"species", "naive_basic", "naive_basic_rgb"} <= set(species.columns)
    assert "| plain gray |" in parent.data.tags["mlflow.note.content"]

    _another_config_or_other_pictures_are_not_the_same(first)


def _another_config_or_other_pictures_are_not_the_same(finished):
    config = dataclasses.replace(VARIANTS["naive_basic"], epochs=1, size=32)
    digest = finished.data.tags["dataset_digest"]
    found = lookup.find_finished(config, digest)
    assert found.run.info.run_id == finished.info.run_id
    assert lookup.find_finished(config, "other") is None
    longer = dataclasses.replace(config, epochs=2)
    assert lookup.find_finished(longer, digest) is None
