"""Colors per minute: recipes train about equally long, on the same pictures and cores.

`python -m benchmarks.quality --data path/to/photographs` trains what `CAMPAIGN` lists, one after
the other, tests it, prints a Markdown table and logs an MLflow run. Stopped and started again in
the same folder, it goes on. A night on two cores with 30 minutes each.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.machine import describe_machine
from colorization import evaluation
from colorization.config import VARIANTS

PROBED = 160  # pictures on which a recipe's speed is measured first
MANY = 1000  # epochs, of which each phase has its share
SHOWN = 60  # test pictures kept of each training, from the first to the last
SHEET_ROWS = 12
COLUMNS = evaluation.SCORES_TOGETHER | {
    "chroma_distance": ("chroma distance", ".2f"),
    "parameters": ("parameters", ",.0f"),
    "images_per_second": ("images/s", ".0f"),
    "epochs": ("epochs", ".0f"),
    "minutes": ("minutes", ".1f"),
}


class Recipe(NamedTuple):
    """A config to be trained, and with how many seeds."""

    config: object
    seeds: int = 1


def changed(variant, **changes):
    """Return the recipe of a variant with other parameters, for one seed."""
    return Recipe(dataclasses.replace(VARIANTS[variant], **changes))


NOTEBOOK = {"head": "rgb", "warmup_ratio": 0.0, "ema_momentum": 0.0}
CAMPAIGN = {
    "naive_efficientnet": Recipe(VARIANTS["naive_efficientnet"], seeds=3),
    "pix2pix_efficientnet": Recipe(VARIANTS["pix2pix_efficientnet"], seeds=3),
    "pix2pix": Recipe(VARIANTS["pix2pix"], seeds=3),
    # What the notebooks did: free RGB; and the sizes of TensorFlow's pix2pix tutorial. Only the
    # schedule of the learning rates is ours, and that crops differ in size.
    "naive_basic, rgb": changed("naive_basic", **NOTEBOOK),
    "naive_dropout, rgb": changed("naive_dropout", **NOTEBOOK),
    "naive_deep, rgb": changed("naive_deep", **NOTEBOOK),
    "pix2pix, rgb, 64 filters": changed(
        "pix2pix", **NOTEBOOK, filters=64, batch_size=4, generator_only_ratio=0
    ),
}


def train(config, data, seconds):
    """Train a config for about so many seconds and test it; to be called in a process of its own.

    Returns:
        The results, by the keys of `COLUMNS`, with those under test-time augmentation as `tta`;
        and `SHOWN` colored test pictures.
    """
    from colorization import color
    from colorization.data import prepare, sources
    from colorization.training import callbacks, train

    splits = prepare.prepare(sources.fetch(data))
    config = dataclasses.replace(config, epochs=epochs_in(seconds, config, splits))
    result = train.train(config, splits)
    real = np.asarray(splits.test.images)
    gray = color.gray_input(real, config.gray_channels)
    colorize = callbacks.as_function(result.colorizer)
    levels = colorize(gray)
    mirrored = colorize(gray[:, :, ::-1])[:, :, ::-1]
    predicted = color.to_uint8(levels)
    results = evaluation.score_set(real, predicted) | {
        "tta": evaluation.score_set(real, color.to_uint8((levels + mirrored) / 2)),
        "parameters": result.colorizer.count_params(),
        "images_per_second": statistics.harmonic_mean(result.history["images_per_second"]),
        "epochs": config.epochs,
        "best_epoch": result.best_epoch + 1,
        "minutes": result.seconds / 60,
        "history": {name: [float(v) for v in each] for name, each in result.history.items()},
    }
    return results, predicted[shown(len(real))]


def epochs_in(seconds, config, splits):
    """Return how many epochs of a config fit into the seconds, by training a little first."""
    import keras

    from colorization.training import train

    few = dataclasses.replace(splits.train, images=splits.train.images[:PROBED])
    ends = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())
    )
    result = train.train(probe_of(config), dataclasses.replace(splits, train=few), [clock])
    speeds = result.history["images_per_second"]
    scoring = max(0, ends[1] - ends[0] - len(few.images) / speeds[1])
    shares = [len(each.epochs) / MANY for each in phases_of(config)]
    a_picture = sum(share / speed for share, speed in zip(shares, speeds[1::2], strict=True))
    return max(1, int(seconds / (len(splits.train.images) * a_picture + scoring)))


def phases_of(config):
    """Return the phases of a config that lasts for `MANY` epochs."""
    from colorization.training import schedule

    return schedule.phases(dataclasses.replace(config, epochs=MANY))


def probe_of(config):
    """Return a config with two epochs of each of its phases, the first of which compiles."""
    phases = phases_of(config)
    alone = sum(not each.adversarial for each in phases)
    ratios = {
        "generator_only_ratio": alone / len(phases),
        "finetune_ratio": sum(each.finetuning for each in phases) / (alone or 1),
    }
    own = {name: value for name, value in ratios.items() if hasattr(config, name)}
    return dataclasses.replace(config, epochs=2 * len(phases), **own)


def shown(count):
    """Return the indices of the test pictures that are kept."""
    return np.linspace(0, count - 1, min(SHOWN, count)).astype(int)


def run_campaign(campaign, data, digest, minutes, folder):
    """Train what is not in `folder` yet; yield name, seed and the file of each training."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(max(recipe.seeds for recipe in campaign.values())):
        for name, (config, seeds) in campaign.items():
            if seed >= seeds:
                continue
            config = dataclasses.replace(config, seed=seed)
            task = {"config": dataclasses.asdict(config), "digest": digest, "minutes": minutes}
            file = folder / f"{name}, seed {seed}.json"
            if not file.exists() or json.loads(file.read_text())["task"] != task:
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    results, pictures = pool.submit(train, config, data, minutes * 60).result()
                np.save(file.with_suffix(".npy"), pictures)
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps({"task": task, "results": results}))
                partial.replace(file)  # all of it, or the next start trains it again
            yield name, seed, file


def baselines(splits):
    """Return the results of no model at all, by name."""
    real = np.asarray(splits.test.images)
    plain = evaluation.baselines(real, evaluation.mean_chroma(splits.train.images))
    return {
        evaluation.BASELINES[name]: evaluation.score_set(real, each) for name, each in plain.items()
    }


def as_markdown(table):
    """Return the table of all trainings as Markdown: means over seeds, with their spread."""
    lines = [f"| | {' | '.join(title for title, _ in COLUMNS.values())} | seeds |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name, rows in table.groupby("recipe", sort=False):
        cells = []
        for key, (_, form) in COLUMNS.items():
            values = rows[key].dropna()
            text = f"{values.mean():{form}}" if len(values) else ""
            if len(values) > 1 and key in ("psnr", "delta_e", "colorfulness"):
                text += f" ±{values.std():{form}}"
            cells.append(text)
        lines.append(f"| {name} | {' | '.join(cells)} | {rows['seed'].count() or ''} |")
    return "\n".join(lines)


def log(table, splits, data, minutes, files):
    """Log the campaign as an MLflow run."""
    import mlflow

    from colorization import figures, tracking

    with tracking.open_run("quality") as run:
        tracking.log_flags(data, minutes=minutes, machine=describe_machine())
        tracking.log_data(splits)
        tracking.log_table(run.info.run_id, table, "quality.json")
        kept = shown(len(splits.test.images))
        chosen = figures.spread(range(len(kept)), SHEET_ROWS)
        real = np.asarray(splits.test.images)[kept[chosen]]
        columns = {}
        for (name, seed), file in files.items():
            if seed == 0:
                columns[name.replace(", ", "\n")] = np.load(file.with_suffix(".npy"))[chosen]
        captions = [splits.test.species[index].replace("_", " ") for index in kept[chosen]]
        title = f"{len(chosen)} test pictures after {minutes:g} minutes of training each"
        mlflow.log_figure(figures.sheet(real, columns, captions, title), "quality.png")
        mlflow.set_tag("mlflow.note.content", as_markdown(table))


def main():
    """Go through the campaign; print and log its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", default="sample", help="sample, kaggle, or a folder or .zip")
    parser.add_argument("--minutes", type=float, default=30, help="of each training")
    parser.add_argument("--folder", type=Path, default=Path("quality"), help="of the results")
    arguments = parser.parse_args()
    # Before anything reads them, here and in the processes that train.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from colorization.data import prepare, sources

    splits = prepare.prepare(sources.fetch(arguments.data))
    rows, files = [], {}
    for name, seed, file in run_campaign(
        CAMPAIGN, arguments.data, splits.digest, arguments.minutes, arguments.folder
    ):
        results = json.loads(file.read_text())["results"]
        plain = {key: results[key] for key in COLUMNS}
        rows.append({"recipe": name, "seed": seed} | plain)
        rows.append({"recipe": f"{name}, TTA", "seed": seed} | plain | results["tta"])
        files[name, seed] = file
        print(*as_markdown(pd.DataFrame(rows[-2:])).splitlines()[-2:], sep="\n", flush=True)
    rows += [{"recipe": name} | results for name, results in baselines(splits).items()]
    table = pd.DataFrame(rows, columns=["recipe", "seed", *COLUMNS])
    print(f"\n{describe_machine()}, {arguments.minutes:g} minutes each\n\n{as_markdown(table)}")
    log(table, splits, arguments.data, arguments.minutes, files)


if __name__ == "__main__":
    main()
