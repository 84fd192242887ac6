"""Make assets/pretrained/: weights of finished runs in half precision, their figures, their card.

    python -m scripts.pretrained RUN_ID RUN_ID    # of a naive training, and of a GAN

The runs are of MLflow's store, as everywhere; the pictures that they were tested on must still be
where they were. Weights are kept as float16 and computed with as float32.
"""

import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnx

from colorization import charts, color, evaluation, figures, process
from colorization.config import VARIANTS, tunable_fields
from colorization.data import download, prepare, sources
from colorization.registry import lookup, shipped

CARD = Path(__file__).with_name("pretrained_card.md")
LEAST_SIZE = 20_000  # of arrays that are halved: small ones take little room, and matter more
TOLERANCE = 0.005  # of figures, which are shown to two digits
MAX_BYTES = 12_000_000  # of a file
CORRELATION = f"test_{evaluation.UNCERTAINTY}"
SAMPLES = 8  # pictures on which an exported network is compared with its origin


def main():
    """Write the files of assets/pretrained/ but for the manifest."""
    process.start()
    process.import_tensorflow()
    shipped.FOLDER.mkdir(exist_ok=True)
    made = dict(make(run_id, shipped.FOLDER) for run_id in sys.argv[1:])
    card = CARD.read_text(encoding="utf-8").format(
        models="\n".join(each["note"] for each in made.values()),
        **next(iter(made.values()))["data"]["pictures"],
    )
    index = json.dumps(made, indent=1, ensure_ascii=False)
    for name, text in {shipped.INDEX: f"{index}\n", "README.md": card}.items():
        (shipped.FOLDER / name).write_text(text, encoding="utf-8")


def make(run_id: str, folder: Path) -> tuple[str, dict]:
    """Write a run's weights into a folder; return its family, and what is to be known of them.

    Raises:
        ValueError: a figure of the test, or the size of a file, is not as it should be.
    """
    from colorization.models import export
    from colorization.models.onnx_colorizer import OnnxColorizer
    from colorization.weights import download as weights
    from colorization.weights import safe_keras

    candidate = lookup.find(run_id)
    run, family = candidate.run, candidate.family
    splits = prepare.prepare(sources.fetch(run.data.tags["data_source"]), candidate.size)
    (folder / family).mkdir(exist_ok=True)
    onnx_file, keras_file = (folder / family / f"generator.{kind}" for kind in shipped.FORMATS)
    whole = weights.fetch(run_id)
    halve_keras(whole, keras_file)
    network, halved = safe_keras.load(whole), safe_keras.load(keras_file)
    channels, chroma = network.input_shape[-1], evaluation.mean_chroma(splits.train.images)
    with tempfile.TemporaryDirectory() as temporary:
        exported = Path(temporary, "whole.onnx")
        samples = color.gray_input(splits.test.images[:SAMPLES], channels)
        export.export_onnx(network, exported, samples)
        halve_onnx(exported, onnx_file)
        tests = {
            "float16": OnnxColorizer(onnx_file),
            "float32": OnnxColorizer(exported),
            "keras": lambda grays: export.in_parts(halved, grays),
        }
        tested = {
            name: evaluation.evaluate(
                colorize, splits.test, channels, chroma, getattr(colorize, "uncertainty", None)
            )
            for name, colorize in tests.items()
        }
        correlation = tested["float16"].metrics[CORRELATION]
        for each in tested.values():  # only ONNX files have it
            each.metrics.pop(CORRELATION, None)
    require_small(onnx_file, keras_file)
    known = {
        "variant": run.data.tags["variant"],
        "params": params(run),
        "command": command(run),
        "sha256": {file.suffix[1:]: weights.digest(file) for file in (onnx_file, keras_file)},
        "parameters": network.count_params(),
        "data": described(run, splits),
        "validation": candidate.validation_score(),
        "best_epoch": int(charts.fact(run, "best_epoch")),
        "collapse": tested["float16"].collapse,
        CORRELATION: correlation,
        "scores": table(tested["float16"].metrics, run.data.tags["variant"]),
    }
    difference = require_same(*(each.metrics for each in tested.values()))
    return family, known | {"note": note(family, known, tested, difference)}


def halve_onnx(source: Path, target: Path) -> None:
    """Write a network whose weights are float16; ONNX Runtime casts them once, when it loads it."""
    model = onnx.load(source)
    halved, casts = [], []
    for each in model.graph.initializer:
        array = onnx.numpy_helper.to_array(each)
        if array.dtype == np.float32 and array.size >= LEAST_SIZE:
            name = f"{each.name}/float16"
            halved.append(onnx.numpy_helper.from_array(half(array, each.name), name))
            to = onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [name], [each.name], to=to))
        else:
            halved.append(each)
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(halved)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def halve_keras(source: Path, target: Path) -> None:
    """Write a `.keras` file whose weights are float16; Keras reads them into float32 variables."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".h5"):
                content = _halved(content)
            new.writestr(zipfile.ZipInfo(name), content)  # without a date: the same bytes each time


def _halved(content: bytes) -> bytes:
    """Return an HDF5 file with its matrices as float16; copied, since HDF5 frees no space."""
    file = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as old, h5py.File(file, "w") as new:

        def copy(name, item):
            if isinstance(item, h5py.Group):
                made = new.require_group(name)
            else:
                array = item[()]
                wide = array.dtype == np.float32 and array.size >= LEAST_SIZE
                made = new.create_dataset(name, data=half(array, name) if wide else array)
            made.attrs.update(item.attrs)

        new.attrs.update(old.attrs)
        old.visititems(copy)
    return file.getvalue()


def half(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array as float16, or raise a ValueError if a number is too large for it."""
    with np.errstate(over="ignore"):
        halved = array.astype(np.float16)
    if not np.isfinite(halved).all():
        raise ValueError(
            f"Expected weights within float16. Received: {name}, {np.abs(array).max()}"
        )
    return halved


def require_same(*tested: dict) -> float:
    """Return the largest difference of a figure of the first test; raise if two digits differ."""
    first, *others = tested
    names = [f"test_{name}" for name in evaluation.SCORES_TOGETHER]
    largest = max(abs(first[name] - each[name]) for name in names for each in others)
    if not largest < TOLERANCE:
        raise ValueError(f"Expected figures within {TOLERANCE} of float32's. Received: {largest}")
    return largest


def require_small(*files: Path) -> None:
    """Raise a ValueError if a file is too large for a repository."""
    for file in files:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"Expected at most {MAX_BYTES} bytes. Received: {file}")


def table(metrics: dict, variant: str) -> dict:
    """Return a test as a run's table of scores has it."""
    return charts.as_table(metrics, variant).to_dict("split", index=False)


def params(run) -> dict:
    """Return what was set of a training."""
    config = VARIANTS[run.data.tags["variant"]]
    return {spec.name: run.data.params[spec.name] for spec in tunable_fields(config)}


def command(run) -> str:
    """Return the command of a training."""
    config = VARIANTS[run.data.tags["variant"]]
    changed = [
        f" -P {spec.name}={run.data.params[spec.name]}"
        for spec in tunable_fields(config)
        if spec.type(run.data.params[spec.name]) != getattr(config, spec.name)
    ]
    if lookup.start_of(run):
        changed.insert(0, " -P start_from=<the naive run>")
    return f"mlflow run . -e {config.variant} -P data=<the pictures>{''.join(changed)}"


def described(run, splits) -> dict:
    """Return which pictures a training and its test had."""
    inputs = run.inputs.dataset_inputs
    profiles = {tag.value: json.loads(each.dataset.profile) for each in inputs for tag in each.tags}
    counts = {name: each["features_shape"][0] for name, each in profiles.items()}
    return {
        "name": splits.name,
        "kind": splits.kind,
        "uri": f"kaggle:{download.DATASET}",
        "digest": splits.digest,
        "pictures": counts | {"testing": len(splits.test.images)},
    }


def note(family: str, known: dict, tested: dict[str, evaluation.Evaluation], most: float) -> str:
    """Return the section of the card about a network."""
    served, shown = tested["float16"], evaluation.SCORES_TOGETHER
    titles = {"": f"**`{known['variant']}`**"}
    titles |= {f"_{name}": title for name, title in evaluation.BASELINES.items()}
    rows = [
        [title, *evaluation.cells(served.metrics, "test_", suffix, shown)]
        for suffix, title in titles.items()
    ]
    rows.append(["in float32", *evaluation.cells(tested["float32"].metrics, "test_", "", shown)])
    species = [
        each.replace("_", " ") for each in served.per_species().sort_values("delta_e").species
    ]
    return MODEL.format(
        family=family,
        command=known["command"],
        parameters=known["parameters"],
        digest=known["data"]["digest"],
        table=figures.table(["test", *evaluation.headings(shown)], rows),
        difference=most,
        correlation=known[CORRELATION],
        best=", ".join(species[:3]),
        worst=", ".join(species[:-4:-1]),
        **known["sha256"],
        **known["data"]["pictures"],
    )


MODEL = """## `{family}`

    {command}

It has {parameters:,} weights, was trained on {training:,} pictures, and tested on {testing} (digest
`{digest}`):

{table}

Between float16, float32 and the Keras file no figure differs by more than {difference:.4f}. By
CIEDE2000 it is best with {best}, and worst with {worst}.
The rank correlation of its uncertainty with the real error is {correlation:.2f}: heat maps are a
weak sign.

`{family}/generator.onnx` is served, `{family}/generator.keras` begins trainings. Their SHA-256:
`{onnx}` and `{keras}`.
"""


if __name__ == "__main__":
    main()
