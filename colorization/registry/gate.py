"""What a trained model must show before it may be served."""

import io
import logging

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import MetricThreshold
from mlflow.models.evaluation import EvaluationResult
from mlflow.models.evaluation.validation import ModelValidationFailedException
from PIL import Image

from colorization import color, evaluation
from colorization.data import prepare, sources
from colorization.errors import GateError
from colorization.registry.lookup import Candidate, load_colorizer

LEAST_GAIN = 1e-6  # MLflow asks for a change above zero
# Another shuffle of the same pictures must not pass for a model. Eight of 230 photographs had a
# CIEDE2000 of 14.9 to 15.4, of 50 paintings 17.2 to 20.7.
LEAST_GAIN_OVER_SHUFFLED = 0.1  # relative
FEW_PICTURES = 20  # on fewer, chance decides
LUMA_TOLERANCE = 2  # levels of 255

logger = logging.getLogger(__name__)


def require_answers(candidate: Candidate) -> None:
    """Load the real pyfunc and let it color pictures of several kinds.

    Raises:
        GateError: it fails on one, or returns another size, or another luma than the picture's own.
    """
    try:
        model = mlflow.pyfunc.load_model(candidate.model_uri)
    except Exception as error:
        raise GateError(f"The model cannot be loaded: {error}") from error
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 4), "uint8")
    for mode in ("L", "RGB", "RGBA", "1", "CMYK"):
        picture = Image.fromarray(noise).convert(mode).resize((90, 150))
        encoded = io.BytesIO()
        picture.save(encoded, "TIFF")
        try:
            (colored,) = model.predict(pd.DataFrame({"image": [encoded.getvalue()]}))["image"]
            answer = Image.open(io.BytesIO(colored))
            luma = np.asarray(answer.convert("L"), int)
        except Exception as error:
            raise GateError(f"The model cannot color a picture of mode {mode}: {error}") from error
        expected = np.asarray(picture.convert("RGB").convert("L"), int)
        if luma.shape != expected.shape or np.abs(luma - expected).max() > LUMA_TOLERANCE:
            raise GateError(f"The model does not keep size and luma of a picture of mode {mode}.")


def require_better_than_baselines(candidate: Candidate) -> None:
    """Raise a `GateError` unless the model beats every baseline on its test pictures.

    Its colors must also be nearer to the true ones than those of other pictures, by CIEDE2000: the
    distribution of colors is that of real ones if they are only shuffled.
    """
    _require_scored(candidate)
    for name, title in evaluation.BASELINES.items():
        _require_better(candidate, candidate.score(), candidate.score(f"_{name}"), title)
    own, shuffled = (candidate.tested[f"test_delta_e{each}"] for each in ("", "_shuffled"))
    if own > (1 - LEAST_GAIN_OVER_SHUFFLED) * shuffled:
        raise GateError(
            f"Hardly better than {evaluation.BASELINES['shuffled']}: test delta_e {own:.4f} "
            f"against {shuffled:.4f}, on {_pictures(candidate)}. "
            f"Expected at least {LEAST_GAIN_OVER_SHUFFLED:.0%} less."
        )


def require_variety(candidate: Candidate) -> None:
    """Raise a `GateError` if the model has collapsed."""
    if candidate.collapse:
        hue, strength = (
            candidate.tested[f"test_{each}"] for each in ("hue_concentration", "colorfulness")
        )
        raise GateError(
            f"Collapsed, all is {candidate.collapse}: test hue_concentration {hue:.4f}, "
            f"colorfulness {strength:.4f}, on {_pictures(candidate)}."
        )


def require_enough_pictures(champion: Candidate, candidate: Candidate) -> None:
    """Raise a `GateError` if the candidate was tested on few pictures, the champion on more."""
    few, more = candidate.test_pictures, champion.test_pictures
    if few < min(FEW_PICTURES, more):
        raise GateError(
            f"Tested on {few} pictures, the champion of run {champion.run.info.run_id} on {more}. "
            f"Expected {FEW_PICTURES} or more."
        )


def require_better_than(champion: Candidate, candidate: Candidate) -> None:
    """Raise a `GateError` unless the candidate beats the champion on the candidate's test pictures.

    Logged scores are compared if both were tested on the same pictures by today's criterion;
    otherwise the champion is tested again, or both are at the larger size if theirs differ.
    Paintings never beat photographs, and a collapsed champion gives way.
    """
    if candidate.painted and not champion.painted:
        raise GateError(
            "A model tested on painted birds does not replace one tested on photographs "
            f"(run {champion.run.info.run_id})."
        )
    if champion.collapse or (champion.painted and not candidate.painted):
        return  # it always gives way
    name = f"the champion of run {champion.run.info.run_id}"
    if champion.tested_on == candidate.tested_on and champion.is_scored:
        _require_better(candidate, candidate.score(), champion.score(), name)
        return
    own, size = candidate.score(), max(champion.size, candidate.size)
    if champion.size != candidate.size:
        own = _score_again(candidate, candidate, size)
        name += f", both at {size} pixels"
    _require_better(candidate, own, _score_again(champion, candidate, size), name)


def _require_scored(candidate: Candidate) -> None:
    if not candidate.is_beside_baselines:
        raise GateError(
            f"The run is of an earlier release, which did not test {candidate.criterion.metric} "
            f"beside {', '.join(evaluation.BASELINES.values())}: train it again."
        )


def _require_better(candidate: Candidate, score: float, other: float, name: str) -> None:
    metric = candidate.criterion.metric
    threshold = MetricThreshold(
        min_absolute_change=LEAST_GAIN, greater_is_better=candidate.criterion.higher_is_better
    )
    try:
        candidate_result, baseline = (EvaluationResult({metric: n}, {}) for n in (score, other))
        mlflow.validate_evaluation_results({metric: threshold}, candidate_result, baseline)
    except ModelValidationFailedException as error:
        raise GateError(
            f"No better than {name}: test {metric} {score:.4f} against {other:.4f}, on "
            f"{_pictures(candidate)}."
        ) from error
    logger.info("gate: test %s %.4f against %.4f of %s", metric, score, other, name)


def _pictures(candidate: Candidate) -> str:
    return f"`{candidate.run.data.tags['data']}` (digest {candidate.digest[:8]})"


def _score_again(model: Candidate, candidate: Candidate, size: int) -> float:
    """Return a model's criterion on the candidate's test pictures, at a size in pixels."""
    try:
        splits = prepare.prepare(sources.fetch(candidate.run.data.tags["data_source"]), size)
    except (ValueError, OSError) as error:
        raise GateError(
            "The champion must be tested again on the run's pictures, but they cannot be read: "
            f"{error}"
        ) from error
    if splits.digest != candidate.digest:
        raise GateError(
            f"The pictures have changed since the run. Expected digest {candidate.digest}: train "
            f"again. Received: digest={splits.digest}, data={splits.uri}"
        )
    colorize, real = load_colorizer(model.model_uri), splits.test.images
    colored = colorize(color.gray_input(real, colorize.channels))
    return evaluation.measure(real, color.to_uint8(colored))[candidate.criterion.metric]
