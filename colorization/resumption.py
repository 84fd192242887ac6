"""Finds a training that was stopped, with its settings and pictures."""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from colorization import charts, runs, training_log
from colorization.address import shown
from colorization.config import VARIANTS, Config
from colorization.data import prepare, sources
from colorization.data.prepare import Splits
from colorization.errors import InputError
from colorization.experiment import StartingWeights, Stopped, resolve_weights, starting_weights
from colorization.registry import lookup
from colorization.registry.candidate import params_of
from colorization.training.checkpoint import State

LAST = "last"
FLAGS = ("register", "checkpoint_every")  # that its run's params hold as well

logger = logging.getLogger(__name__)


class Resumption(NamedTuple):
    """What `experiment.train_and_log` needs to go on with a training."""

    config: Config
    splits: Splits
    data: str
    start: StartingWeights
    flags: dict[str, str]
    stopped: Stopped


def find(asked: Config, arguments: argparse.Namespace, defaults: argparse.Namespace) -> Resumption:
    """Find the training that `--resume` names, a run's id or `last`.

    Its settings and pictures are those of its run, whatever the config `asked` for. `mlflow run`
    hands on the variant's `defaults` like what was typed, so that a default contradicts nothing.

    Raises:
        InputError: there is no such training, it cannot go on, or a flag contradicts its run.
    """
    runs.end_stale_runs()
    stopped, data = None, arguments.data
    if arguments.resume != LAST:
        run = _find(arguments.resume, asked.variant)
        stopped = Stopped(run, _state_of(run))
        if data == defaults.data:
            data = run.data.tags.get("data_source", data)
    pictures = sources.fetch(data)
    stopped = stopped or _find_last(asked.variant, prepare.prepare(pictures, asked.size))
    run = stopped.run
    config = lookup.settings_of(run)
    if config is None:
        raise InputError(
            "The run does not say how it was trained. Expected one of this release that was "
            f"stopped in its training: train again. Received: resume={run.info.run_id!r}"
        )
    splits = prepare.prepare(pictures, config.size)
    _require_same_pictures(run, splits, data)
    flags = {name: run.data.params.get(name, getattr(defaults, name)) for name in FLAGS}
    origin = lookup.start_of(run)
    started = arguments.start_from
    if started == params_of(run).get("start_from"):  # an alias may have moved since
        started = origin
    elif started:
        started = shown(resolve_weights(config, started))
    _refuse_contradictions(
        vars(arguments) | asdict(asked) | {"start_from": started},
        vars(defaults) | asdict(VARIANTS[asked.variant]),
        {"start_from": origin, **flags, **asdict(config)},
    )
    start = StartingWeights(origin) if stopped.state else starting_weights(config, splits, origin)
    logger.info("%s: goes on in run %s", config.label, run.info.run_id)
    return Resumption(config, splits, data, start, flags, stopped)


def _find(run_id: str, variant: str) -> Run:
    try:
        run = mlflow.get_run(run_id)
    except MlflowException as error:
        raise InputError(
            f"No such run. Expected its id, or {LAST}. Received: resume={shown(run_id)!r}"
        ) from error
    trained, state = run.data.tags.get("variant"), (run.info.status, run.info.lifecycle_stage)
    if trained != variant or state[0] == "FINISHED" or state[1] != "active":
        raise InputError(
            f"The run cannot go on. Expected a training of {variant} that was stopped. (A finished "
            f"one is registered by `mlflow run . -e register -P run_id=...`.) Received: "
            f"resume={run_id!r}, variant={trained}, status={' '.join(state)}"
        )
    return run


def _find_last(variant: str, splits: Splits) -> Stopped:
    for run in runs.find_unfinished(variant, splits.digest):
        try:
            return Stopped(run, _state_of(run))
        except InputError as error:
            logger.warning("%s", error)
    raise InputError(
        f"No stopped training of {variant} on `{splits.name}` can be resumed. Expected one, with "
        f"its data=, or a run's id. Received: resume={LAST!r}"
    )


def _require_same_pictures(run: Run, splits: Splits, data: str) -> None:
    digest = run.data.tags.get("dataset_digest", splits.digest)  # stopped before it was logged
    if digest != splits.digest:
        raise InputError(
            "A training goes on with the pictures that it began with. Expected those of digest "
            f"{digest}. Received: data={shown(data)!r}, of digest {splits.digest}"
        )


def _refuse_contradictions(
    given: Mapping[str, Any], defaults: Mapping[str, Any], own: Mapping[str, Any]
) -> None:
    for name, value in own.items():
        if given[name] not in (value, defaults[name]):
            raise InputError(
                "A training goes on with the settings that it began with. Expected none, or "
                f"{name}={value}. Received: {name}={shown(str(given[name]))}"
            )


def _state_of(run: Run) -> State | None:
    """Return what a training has reached, None for one that was stopped in its first epoch."""
    state = training_log.saved_state(run.info.run_id)
    if state is None and charts.history(run.info.run_id, charts.SPEED):
        raise InputError(
            "The run has no checkpoint that is whole, neither here nor among its artifacts. "
            "Expected the machine that trained it, or a training with checkpoint_every=1: train "
            f"again. Received: resume={run.info.run_id!r}"
        )
    return state
