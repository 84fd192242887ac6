"""The way of a run into service: gate, registered version, alias; and the view of its rivals."""

import json
import logging
from collections.abc import Callable, Set
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from colorization import charts, evaluation, tracking
from colorization.address import redacted, shown
from colorization.errors import GateError
from colorization.registry import gate, served
from colorization.registry.candidate import KINDS, Candidate, trained_on
from colorization.registry.lookup import (
    CHALLENGER,
    CHAMPION,
    candidate_of_version,
    champion_uri,
    find_champion,
    model_name,
)

DESCRIPTIONS = {
    "naive": "Colors gray photographs of garden birds accurately: a network that was trained to be "
    "near each pixel's color. Chosen by CIEDE2000, the mean color difference.",
    "pix2pix": "Colors gray photographs of garden birds vividly: the generator of a GAN. Chosen by "
    "color error: CIEDE2000, and how far the distribution of its colors is from the real one.",
}
ROLES = (
    " `champion` is the version in service, `challenger` the latest that did not become it. The "
    "gate asks for varied colors, and for better scores than plain gray, mean chroma, shuffled "
    "chroma and, as a rule, the champion before. The tag `gate` says `passed`, or what spoke "
    "against a version; the tag `forced`, that a person promoted it all the same."
)
FORCED = "forced, although the gate refused it"
PROMOTING = "promoting"  # the tag of a version that passed the gate, until the alias has moved
SHARED_VIEW = "mlflow.sharedViewState."  # a tag of the experiment: what "Share" in the UI writes

logger = logging.getLogger(__name__)


def serve_command(model_uri: str) -> str:
    """Return the command that serves a model."""
    return f"mlflow models serve -m {model_uri} -p 5001 --env-manager uv"


def offer(candidate: Candidate) -> str:
    """Take a new model to the gate, and log how it went; return the address to serve it by.

    Failures are logged, not raised: the training itself is done.
    """
    try:
        version, alias = register(candidate)
    except (GateError, MlflowException) as error:
        logger.warning("not registered: %s", redacted(error))
        return candidate.model_uri
    logger.info("%s version %s is the %s", version.name, version.version, alias)
    own = f"models:/{version.name}/{version.version}"
    return champion_uri(candidate.family) if alias == CHAMPION else own


def finish(candidate: Candidate, register: bool) -> None:
    """Offer a new model to the registry if asked to; log how to serve it and which run is best."""
    uri = offer(candidate) if register else candidate.model_uri
    logger.info("serve it: %s", serve_command(uri))
    logger.info("compare the runs: %s", link(candidate))


def link(candidate: Candidate) -> str:
    """Make the view of a finished run's rivals, the best first; return its address.

    They are the tested runs of its family on the same pictures of the same size. What does not test
    (tools, trials) is not among them. Where the store is not a server, the command that starts one
    stands before the address.
    """
    best, test = charts.best_of(candidate.criterion), f"test_{candidate.criterion.metric}"
    metrics = dict.fromkeys([best, test, *(f"test_{name}" for name in charts.TESTED)])
    columns = ["tags.`variant`", *(f"metrics.`{name}`" for name in metrics)]
    view = {
        "searchFilter": f"tags.family = '{candidate.family}' and metrics.{test} >= 0 and "
        f"tags.dataset_digest = '{candidate.digest}' and params.size = '{candidate.size}'",
        "orderByKey": f"metrics.`{best}`",
        "orderByAsc": not candidate.criterion.higher_is_better,
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {"tags.`variant`": 140},
    }
    key = f"best-{candidate.family}-{candidate.digest[:8]}-{candidate.size}"
    experiment = candidate.run.info.experiment_id
    mlflow.MlflowClient().set_experiment_tag(experiment, SHARED_VIEW + key, json.dumps(view))
    page = f"/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={key}"
    uri = shown(mlflow.get_tracking_uri())
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/") + page
    own = "" if uri == f"sqlite:///{Path('mlflow.db').resolve()}" else f" --backend-store-uri {uri}"
    return f"mlflow ui{own}, then http://127.0.0.1:5000{page}"


def register(candidate: Candidate, force: bool = False) -> tuple[ModelVersion, str]:
    """Take a candidate through the gate; register it as champion, or else as challenger.

    The alias moves last: whatever breaks before, the old champion goes on serving. With `force`, it
    moves although a comparison failed, and the version is tagged `forced`.

    Returns:
        The version and its alias; those of the champion if the candidate is already served.

    Raises:
        GateError: it cannot color pictures, or no better than a baseline: it is not registered.
        MlflowException: the store does not answer.
    """
    settled = {each.version for each in _passed(candidate.family) if PROMOTING not in each.tags}
    champion = find_champion(candidate.family)  # later: what is settled is in the alias by now
    if champion and champion[1].run.info.run_id == candidate.run.info.run_id:
        return champion[0], CHAMPION
    broken = _broken(champion[1]) if champion else ""
    gate.require_answers(candidate)  # comes second: if the store were away, this one would fail too
    failed = _failed(gate.require_better_than_baselines, candidate)
    if failed and not force:
        raise GateError(*failed)
    failed += _failed(gate.require_variety, candidate)
    if broken:
        logger.warning("%s", broken)
    elif champion:
        failed += _failed(gate.require_enough_pictures, champion[1], candidate)
        failed += _failed(gate.require_better_than, champion[1], candidate)
    version = _create(candidate, " ".join(failed), force, broken)
    if failed and force:
        logger.warning("%s: %s", FORCED, " ".join(failed))
    elif failed:
        logger.warning("version %s does not become the champion: %s", version.version, failed[-1])
        _set_alias(candidate.family, CHALLENGER, version)
        return version, CHALLENGER
    return _promote(candidate.family, version, champion, settled)


def _failed(requirement: Callable[..., None], *candidates: Candidate) -> list[str]:
    """Return what a requirement of the gate says against candidates, if anything."""
    try:
        requirement(*candidates)
    except GateError as error:
        return [str(error)]
    return []


def _broken(champion: Candidate) -> str:
    """Return why the champion can no longer be used; "" if it works."""
    try:
        served.load(champion.model_uri)
    except GateError as error:
        reason = redacted(error).strip().rstrip(".")
        return f"It replaces {champion.name}, which does not work any more: {reason}."
    return ""


def _create(candidate: Candidate, failed: str, force: bool, broken: str = "") -> ModelVersion:
    """Create the version with its tags and description; without an alias it serves nobody."""
    run, test = candidate.run, f"test_{candidate.criterion.metric}"
    tags = {name: run.data.tags[name] for name in ("variant", "data_kind", "dataset_digest")}
    if candidate.is_beside_baselines:  # what an earlier release tested may be forced
        figures = {test: candidate.score(), f"{test}_gray": candidate.score("_gray")}
        tags |= {name: f"{value:.4f}" for name, value in figures.items()}
    tags |= {"trained_on": trained_on(run) or "unknown", "gate": failed or "passed"}
    if not failed:
        tags[PROMOTING] = "yes"
    elif force:
        tags["forced"] = "yes"
    client, name = mlflow.MlflowClient(), model_name(candidate.family)
    query = f"name = '{name}' and run_id = '{run.info.run_id}'"
    version = next(iter(client.search_model_versions(query)), None)
    if version:  # it was registered before, and did not win
        for key, value in tags.items():
            client.set_model_version_tag(name, version.version, key, value)
    else:
        version = mlflow.register_model(candidate.model_uri, name, tags=tags)
    client.update_registered_model(name, DESCRIPTIONS[candidate.family] + ROLES)
    verdict = f"{FORCED}: {failed}" if "forced" in tags else failed or "passed."
    story = _story(candidate, version, f"{verdict} {broken}")
    client.update_model_version(name, version.version, story)
    return client.get_model_version(name, version.version)


def _story(candidate: Candidate, version: ModelVersion, verdict: str) -> str:
    """Return a version's description: text that also reads well where it is not rendered."""
    run, metrics = candidate.run, candidate.tested
    tags, seen = run.data.tags, trained_on(run)
    origin = f"It was trained on {seen}." if seen else "What it was trained on is not known."
    if seen == KINDS["painted"]:
        origin = "In color, it has only seen paintings: on photographs, expect wrong colors."
    beside = ""
    if candidate.is_beside_baselines:
        metric = candidate.criterion.metric
        heading, digits = evaluation.SCORES_TOGETHER.get(metric, (metric, ".2f"))
        better = "more" if candidate.criterion.higher_is_better else "less"
        others = ", ".join(
            f"{title} {candidate.score(f'_{name}'):{digits}}"
            for name, title in evaluation.BASELINES.items()
        )
        beside = (
            f"Chosen by {heading}, where {better} is better: {candidate.score():{digits}}; "
            f"{others}.\n\n"
        )
    own = ", ".join(
        f"{heading} {metrics[f'test_{name}']:{digits}}"
        for name, (heading, digits) in evaluation.SCORES.items()
        if f"test_{name}" in metrics  # its table may be gone
    )
    return (
        f"{tags['variant']}, tested on {candidate.test_pictures} pictures of {tags['data']}. "
        f"{origin}\n\n"
        f"{beside}All of the test: {own}.\n\n"
        f"Gate: {verdict}\n\n"
        f"Serve it: {serve_command(f'models:/{version.name}/{version.version}')}\n\n"
        f"Run: {run.info.run_id}\n"
    )


def _promote(
    family: str,
    version: ModelVersion,
    before: tuple[ModelVersion, Candidate] | None,
    settled: Set[str],
) -> tuple[ModelVersion, str]:
    """Make a version the champion, or the best of all that pass the gate at the same time.

    What was `settled` before is no rival: a person may have set the alias back since.

    MLflow has no compare-and-swap for aliases. Each process creates its version before it moves
    the alias, and moves it again while it finds new versions afterwards: whoever moves it last
    has compared all.
    """
    try:
        winner = _best_of_rivals(family, version, settled)
    finally:
        if PROMOTING in version.tags:
            client = mlflow.MlflowClient()
            client.delete_model_version_tag(version.name, version.version, PROMOTING)
    if winner.version != version.version:
        logger.warning(
            "version %s does not become the champion: version %s came at the same time and is "
            "better",
            *(version.version, winner.version),
        )
        _set_alias(family, CHALLENGER, version)
        return version, CHALLENGER
    if before:
        logger.info("version %s gives way to version %s", before[0].version, version.version)
    return version, CHAMPION


def _best_of_rivals(family: str, version: ModelVersion, settled: Set[str]) -> ModelVersion:
    """Move the alias to a version, then to the best of its rivals until there are no new ones."""
    winner, seen = version, {version.version}
    while True:
        _set_alias(family, CHAMPION, winner)
        rivals = {} if version.tags.get("forced") else _rivals(family, version, settled)
        if rivals.keys() <= seen:
            return winner
        seen |= rivals.keys()
        working = [
            (each, rival)
            for each, rival in rivals.values()
            if each.version == version.version or not _broken(rival)
        ]
        criterion = working[0][1].criterion
        winner, _ = criterion.best(working, lambda each: (each[1].score(), each[1].run.info.run_id))


def _passed(family: str) -> list[ModelVersion]:
    """Return the versions that have passed the gate."""
    query = f"name = '{model_name(family)}' and tags.gate = 'passed'"
    return list(mlflow.MlflowClient().search_model_versions(query))


def _rivals(
    family: str, version: ModelVersion, settled: Set[str]
) -> dict[str, tuple[ModelVersion, Candidate]]:
    """Return a version and those that pass the gate on the same test at the same time."""
    own = candidate_of_version(version).tested_on
    rivals = {}
    for each in _passed(family):
        at_once = each.version not in settled or PROMOTING in each.tags  # it may be offered again
        if each.version == version.version or at_once:
            rival = candidate_of_version(each)
            if not rival.missing and rival.tested_on == own and rival.is_beside_baselines:
                rivals[each.version] = each, rival
    return rivals


def _set_alias(family: str, alias: str, version: ModelVersion) -> None:
    set_alias = mlflow.MlflowClient().set_registered_model_alias
    tracking.insert(set_alias, model_name(family), alias, version.version)
