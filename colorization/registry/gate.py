"""What a trained model must show before it may be served.

`promotion.register` asks in this order: `require_answers`, `require_better_than_baselines`,
`require_variety`, `require_enough_pictures` and `require_better_than` the champion. What the first
two refuse is not registered, what the others refuse becomes challenger. Scores are those of test
pictures, compared by the family's criterion in `evaluation.CRITERIA`.
"""

import logging

import numpy as np
from PIL import Image

from colorization import color, evaluation
from colorization.address import redacted
from colorization.data import prepare, sources
from colorization.errors import GateError
from colorization.registry import served
from colorization.registry.candidate import Candidate
from colorization.registry.lookup import Colorize, load_colorizer

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
    model = served.Served(served.load(candidate.model_uri))
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 4), "uint8")
    for mode in ("L", "RGB", "RGBA", "1", "CMYK"):
        picture = Image.fromarray(noise).convert(mode).resize((90, 150))
        luma = np.asarray(model.color(picture, "TIFF").convert("L"), int)
        expected = np.asarray(picture.convert("RGB").convert("L"), int)
        if np.abs(luma - expected).max() > LUMA_TOLERANCE:
            raise GateError(f"The model does not keep the luma of a picture of mode {mode}.")


def require_better_than_baselines(candidate: Candidate) -> None:
    """Raise a `GateError` unless the model beats every baseline on its test pictures.

    Its colors must also be nearer to the true ones than those of other pictures, by CIEDE2000: the
    distribution of colors is that of real ones if they are only shuffled.
    """
    if not candidate.is_beside_baselines:
        raise GateError(
            f"The run is of an earlier release, which did not test {candidate.criterion.metric} "
            f"beside {', '.join(evaluation.BASELINES.values())}, or its files are gone: train it "
            "again."
        )
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
        tested = candidate.tested
        raise GateError(
            f"Collapsed, all is {candidate.collapse}: test hue_concentration "
            f"{tested['test_hue_concentration']:.4f}, colorfulness "
            f"{tested['test_colorfulness']:.4f}, on {_pictures(candidate)}."
        )


def require_enough_pictures(champion: Candidate, candidate: Candidate) -> None:
    """Raise a `GateError` if the candidate was tested on few pictures, the champion on more."""
    few, more = candidate.test_pictures, champion.test_pictures
    if few < min(FEW_PICTURES, more):
        raise GateError(
            f"Tested on {few} pictures, {champion.name} on {more}. Expected {FEW_PICTURES} or more."
        )


def require_better_than(champion: Candidate, candidate: Candidate) -> None:
    """Raise a `GateError` unless the candidate beats the champion on the candidate's test pictures.

    Logged scores are compared if both were tested on the same pictures by today's criterion.
    Otherwise, and where its run is gone, the champion is tested again; if their sizes differ, both
    are tested at the larger one. Paintings never beat photographs, and a champion that has
    collapsed, or knows only paintings, gives way.
    """
    if candidate.painted and champion.kind not in ("painted", ""):
        raise GateError(
            "A model tested on painted birds does not replace one tested on photographs "
            f"({champion.name})."
        )
    if champion.collapse or (champion.painted and not candidate.painted):
        reason = "was tested on painted birds only"
        if champion.collapse:
            reason = f"has collapsed, all is {champion.collapse}"
        logger.info("gate: %s gives way, since it %s", champion.name, reason)
        return
    logged = champion.tested.get(f"test_{candidate.criterion.metric}")
    if champion.tested_on == candidate.tested_on and logged is not None:
        _require_better(candidate, candidate.score(), logged, champion.name)
        return
    other, own, name = load_colorizer(champion.model_uri), candidate.score(), champion.name
    size = max(other.size, candidate.size)
    real = _test_pictures(candidate, size)
    if size > candidate.size:
        own = _score(load_colorizer(candidate.model_uri), real, candidate.criterion)
    if other.size not in (candidate.size, 0):
        name += f", both at {size} pixels"
    try:
        score = _score(other, real, candidate.criterion)
    except Exception as error:  # of somebody's code
        logger.warning("gate: %s gives way, since it cannot be tested: %s", name, redacted(error))
        return
    _require_better(candidate, own, score, name)


def _require_better(candidate: Candidate, score: float, other: float, name: str) -> None:
    metric = candidate.criterion.metric
    if not candidate.criterion.better(score, other):
        raise GateError(
            f"No better than {name}: test {metric} {score:.4f} against {other:.4f}, on "
            f"{_pictures(candidate)}."
        )
    logger.info("gate: test %s %.4f against %.4f of %s", metric, score, other, name)


def _pictures(candidate: Candidate) -> str:
    return f"`{candidate.run.data.tags['data']}` (digest {candidate.digest[:8]})"


def _test_pictures(candidate: Candidate, size: int) -> np.ndarray:
    """Return the candidate's test pictures at a size in pixels, uint8 (N, S, S, 3)."""
    if candidate.pretrained:
        raise GateError(
            "The weights that come with the project cannot be compared with this champion: their "
            "test pictures do not come with them."
        )
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
    return splits.test.images


def _score(colorize: Colorize, real: np.ndarray, criterion: evaluation.Criterion) -> float:
    colored = colorize(color.gray_input(real, colorize.channels))
    return evaluation.score_set(real, color.to_uint8(colored))[criterion.metric]
