"""The way of a run into service: gate, registered version, alias.

`python -m colorization.registry --best pix2pix` registers by hand, as `mlflow run . -e register`.
"""

import logging

import mlflow
from mlflow.exceptions import MlflowException

from colorization import evaluation, process
from colorization.address import redacted, shown
from colorization.errors import GateError
from colorization.registry import gate
from colorization.registry.gate import Candidate

CHAMPION, CHALLENGER = "champion", "challenger"

logger = logging.getLogger(__name__)


def model_name(family):
    """Return the registered model of a family."""
    return f"bird-colorizer-{family}"


def champion_uri(family):
    """Return the address of a family's champion, whichever version that is."""
    return f"models:/{model_name(family)}@{CHAMPION}"


def serve_command(model_uri):
    """Return the command that serves a model."""
    return f"mlflow models serve -m {model_uri} -p 5001 --env-manager uv"


def find(run_id):
    """Return a run as a `Candidate`.

    Raises:
        GateError: there is no such run, or it has not finished, or it has no model.
    """
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise GateError(f"No such run. Expected its id. Received: {shown(run_id)!r}") from error
    ours = {"family", "dataset_digest", "mlflow.note.content"} <= set(run.data.tags)
    state = run.info.status, run.info.lifecycle_stage
    if state != ("FINISHED", "active") or not ours or not _has_model(run):
        raise GateError(
            "The run cannot be served. Expected a finished training of this project with a model. "
            f"Received: run_id={run_id!r}, status={' '.join(state)}, model={_has_model(run)}"
        )
    return _candidate(run)


def resolve(model):
    """Return the `Candidate` that a model's name stands for.

    Args:
        model: `models:/...`, the id of a finished training run, or a family: its champion.

    Raises:
        GateError: there is no such model, or it is none of this project's.
    """
    if model in evaluation.CRITERIA:
        model = champion_uri(model)
    if not model.startswith("models:/"):
        return find(model)
    try:
        found = mlflow.models.get_model_info(model)
        candidate = Candidate(mlflow.get_run(found.run_id), found.model_uri)
    except MlflowException as error:
        reason = redacted(error.message, mlflow.get_tracking_uri()).rstrip(".")
        raise GateError(
            f"{reason}. Expected `models:/...`, a finished run's id, or naive or pix2pix, whose "
            f"champion `mlflow run . -e naive_deep` or `-e pix2pix` makes. Received: {model=}"
        ) from error
    if "family" not in candidate.run.data.tags:
        raise GateError(f"Not a model of this project. Received: model={model!r}")
    return candidate


def find_best(family):
    """Return the best finished run of a family, by its criterion, among those on equal pictures.

    Photographs come before paintings; of several sets, the one that was trained on last.

    Raises:
        GateError: the family is unknown, or has no finished run that today's criterion knows.
    """
    if family not in evaluation.CRITERIA:
        known = " or ".join(evaluation.CRITERIA)
        raise GateError(f"Unknown family. Expected {known}. Received: best={family!r}")
    experiments = [each.experiment_id for each in mlflow.search_experiments()]
    query = f"tags.family = '{family}' and attributes.status = 'FINISHED'"
    runs = mlflow.search_runs(experiments, query, output_format="list")  # the latest first
    found = [_candidate(run) for run in runs if _has_model(run) and "data" in run.data.tags]
    candidates = [each for each in found if each.is_scored]
    if found and not candidates:
        raise GateError(
            f"No finished run was tested by {evaluation.CRITERIA[family].metric}, which earlier "
            f"releases did not know: train again. Received: best={family!r}"
        )
    if not candidates:
        raise GateError(
            "There is nothing to choose from. Expected a finished run of the family: train one "
            f"with `mlflow run . -e ...` first. Received: best={family!r}"
        )
    latest = min(candidates, key=lambda each: each.painted)
    equal = [each for each in candidates if each.digest == latest.digest]
    logger.info(
        "best=%s: compared %d finished runs on `%s` (digest %s) by test %s, left out %d on others",
        family,
        len(equal),
        latest.run.data.tags["data"],
        latest.digest[:8],
        latest.criterion.metric,
        len(candidates) - len(equal),
    )
    return _best(equal)


def offer(run_id):
    """Take a run that has just finished to the gate, and tell the log how it went.

    Returns:
        The command that serves the family's champion if it is this run now, else None; what goes
        wrong here is logged, since the training itself is done.
    """
    try:
        candidate = find(run_id)
        version, alias = register(candidate)
    except (GateError, MlflowException) as error:
        logger.warning("not registered: %s", redacted(error, mlflow.get_tracking_uri()))
        return None
    logger.info("%s version %s is the %s", version.name, version.version, alias)
    return serve_command(champion_uri(candidate.family)) if alias == CHAMPION else None


def find_champion(family):
    """Return the version that serves a family and its `Candidate`, or None."""
    client = mlflow.MlflowClient()
    for model in client.search_registered_models(f"name = '{model_name(family)}'"):
        if CHAMPION in model.aliases:
            version = client.get_model_version(model.name, model.aliases[CHAMPION])
            return version, Candidate(client.get_run(version.run_id), version.source)
    return None


def register(candidate, force=False):
    """Take a candidate through the gate; register it as champion, or else as challenger.

    The alias moves last: whatever breaks before, the old champion goes on serving.

    Args:
        candidate: of `find` or `find_best`.
        force: promote although a comparison failed; the version is tagged `forced`.

    Returns:
        The `ModelVersion` and its alias; the champion's own if the candidate is served already.

    Raises:
        GateError: it cannot color pictures, or no better than plain gray: it is not registered.
        MlflowException: the store does not answer.
    """
    champion = find_champion(candidate.family)
    if champion and champion[1].run.info.run_id == candidate.run.info.run_id:
        return champion[0], CHAMPION
    gate.require_answers(candidate)
    failed = ""
    try:
        gate.require_better_than_gray(candidate)
    except GateError as error:
        if not force:
            raise
        failed = str(error)
    if champion:
        try:
            gate.require_better_than(champion[1], candidate)
        except GateError as error:
            failed = f"{failed} {error}".strip()
    version = _create(candidate, failed, force)
    if failed and not force:
        logger.warning("challenger: %s", failed)
        _set_alias(candidate.family, CHALLENGER, version)
        return version, CHALLENGER
    _set_alias(candidate.family, CHAMPION, version)
    return _settle(candidate.family, version, champion)


def _create(candidate, failed, force):
    """Create the version with its story; it serves nobody until it has an alias."""
    tags = dict(candidate.run.data.tags)
    kept = {"variant", "family", "data", "data_kind", "dataset_digest", "collapse"} & set(tags)
    metrics = {name: f"{value:.4f}" for name, value in candidate.run.data.metrics.items()}
    told = (
        {name: tags[name] for name in kept}
        | {name: value for name, value in metrics.items() if name.startswith("test_")}
        | {"run_id": candidate.run.info.run_id, "gate": failed or "passed"}
        | ({"forced": "yes"} if failed and force else {})
    )
    client, name = mlflow.MlflowClient(), model_name(candidate.family)
    query = f"name = '{name}' and run_id = '{candidate.run.info.run_id}'"
    version = next(iter(client.search_model_versions(query)), None)
    if version:  # it was registered before, and did not win
        for key, value in told.items():
            client.set_model_version_tag(name, version.version, key, value)
    else:
        version = mlflow.register_model(candidate.model_uri, name, tags=told)
    story = tags["mlflow.note.content"] + (f"\nGate: {failed}\n" if failed else "")
    client.update_model_version(name, version.version, story)
    return client.get_model_version(name, version.version)


def _settle(family, version, before):
    """Agree with whoever promoted at the same time: the best of all that passed since serves.

    There is no compare-and-swap for aliases. Each process creates its version before it moves the
    alias, and looks at all versions after: the last one to look sees every other.
    """
    base = int(before[0].version) if before else 0
    client = mlflow.MlflowClient()
    rivals = [
        (each, Candidate(client.get_run(each.run_id), each.source))
        for each in client.search_model_versions(f"name = '{version.name}'")
        if int(each.version) > base and each.tags.get("gate") == "passed"
    ]
    digest = version.tags["dataset_digest"]
    rivals = [each for each in rivals if each[1].digest == digest and each[1].is_scored]
    if version.tags.get("forced") or len(rivals) < 2:
        return version, CHAMPION
    best_run = _best([candidate for _, candidate in rivals]).run.info.run_id
    winner = next(each for each, candidate in rivals if candidate.run.info.run_id == best_run)
    _set_alias(family, CHAMPION, winner)
    if winner.version == version.version:
        return version, CHAMPION
    _set_alias(family, CHALLENGER, version)
    return version, CHALLENGER


def _set_alias(family, alias, version):
    client = mlflow.MlflowClient()
    try:
        client.set_registered_model_alias(model_name(family), alias, version.version)
    except MlflowException:
        # It inserts an alias that it has not found, and another process was first: now it is found.
        client.set_registered_model_alias(model_name(family), alias, version.version)


def _best(candidates):
    higher = candidates[0].criterion.higher_is_better
    ranked = sorted(candidates, key=lambda each: (each.score(), each.run.info.run_id))
    return ranked[-1 if higher else 0]


def _has_model(run):
    """Tell whether a run has logged a model that was not deleted since."""
    if not run.outputs or not run.outputs.model_outputs:
        return False
    try:
        mlflow.get_logged_model(run.outputs.model_outputs[0].model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _candidate(run):
    return Candidate(run, f"models:/{run.outputs.model_outputs[0].model_id}")


def parse(argv=None):
    """Parse the command line: a run, or the best one of a family."""
    parser = process.Parser(prog="python -m colorization.registry", description=__doc__)
    parser.add_argument("--run_id", default="", help="of a finished training")
    parser.add_argument("--best", default="", help="naive or pix2pix: its best finished run")
    parser.add_argument("--force", choices=("yes", "no"), default="no", help="promote anyway")
    arguments = parser.parse_args(argv)
    if bool(arguments.run_id) == bool(arguments.best):
        parser.error("Expected one of --run_id and --best, not both and not none.")
    return arguments


@process.entry_point(parse)
def main(arguments):
    """Register the run that the command line names."""
    candidate = find(arguments.run_id) if arguments.run_id else find_best(arguments.best)
    version, alias = register(candidate, force=arguments.force == "yes")
    logger.info("%s version %s is the %s", version.name, version.version, alias)
    if alias == CHAMPION:
        logger.info("serve it: %s", serve_command(champion_uri(candidate.family)))
