"""The end of a study: its figures, and its best config against the hand-made variants, on test."""

import logging
from contextlib import contextmanager

import mlflow

from colorization import comparison, experiment, tracking
from colorization.address import redacted
from sweeps import parent_run
from sweeps.study import best_trial, state_of

logger = logging.getLogger(__name__)


class NoWinner(Exception):
    """A study has ended without a trained network; the message says why."""


def conclude(study, plan, splits, data, final_epochs):
    """Log the study's figures, train its best config and the hand-made variants, compare them.

    What was trained already is not trained again. To be called under a lock: the process that
    comes second finds everything done.

    Args:
        study: an Optuna study whose search has ended.
        plan: of the study.
        splits: that it was searched on; the test's pictures are looked at here, and only here.
        data: as the command line names them.
        final_epochs: of each of these trainings; 0 ends with the search.

    Returns:
        The winner, or None where `final_epochs` is 0.

    Raises:
        NoWinner: all trials were pruned or failed, or the best config broke down.
    """
    with _active(study.user_attrs["run_id"]):
        parent_run.update(study)
        parent_run.log_figures(study)
        best = best_trial(study)
        if best is None:
            states = [state_of(trial) for trial in study.get_trials(deepcopy=False)]
            counts = ", ".join(f"{states.count(each)} {each}" for each in sorted(set(states)))
            raise NoWinner(
                f"No trial has finished, so that there is no winner: {counts}. Their runs tell "
                f"why. Raise `trials` to go on, or begin another study."
            )
        if not final_epochs:
            return None
        contenders = _train_all(plan, best, splits, data, final_epochs)
        _tell(study, plan, best, contenders, splits)
        return contenders[0]


@contextmanager
def _active(run_id):
    """Make a run the active one: it ends FINISHED, FAILED with its error as a tag, or KILLED."""
    with mlflow.start_run(run_id=run_id):
        try:
            yield
        except KeyboardInterrupt:
            mlflow.end_run("KILLED")
            raise
        except Exception as error:
            mlflow.set_tag("error", f"{type(error).__name__}: {redacted(error)}")
            raise


def _train_all(plan, best, splits, data, epochs):
    """Return the winner and, behind it, the hand-made variants as far as they are others."""
    config = plan.config_of(best, epochs)
    trained = _trained(config, splits, data, "winner", "winner")
    if trained is None:
        raise NoWinner(f"The best config, of trial {best.number}, broke down in {epochs} epochs.")
    others = [each for each in plan.handmade(epochs).values() if each != config]
    contenders = [_trained(each, splits, data, "handmade", each.label) for each in others]
    return [trained, *filter(None, contenders)]


def _trained(config, splits, data, role, label):
    """Return the finished run of a config: an earlier one, or one below the active run."""
    parent, tags = tracking.active_run(), {"sweep": role}
    logger.info("%s: %s, %d epochs", role, config.label, config.epochs)
    try:
        candidate = experiment.find_or_train(config, splits, data, parent, name=label, tags=tags)
    except FloatingPointError as error:
        logger.warning("%s: %s", config.label, error)
        return None
    return comparison.Contender(label, config, *candidate)


def _tell(study, plan, best, contenders, splits):
    """Log the comparison to the active run, with the story of the study."""
    compared = comparison.log(contenders, splits)
    for line in comparison.as_text(compared).split("\n"):
        logger.info("%s", line)
    params = ", ".join(f"{name}={_short(value)}" for name, value in best.params.items())
    states = [state_of(trial) for trial in study.get_trials(deepcopy=False)]
    counts = ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states))
    own = best.user_attrs.get("handmade")
    name = f"{best.number}, {own}'s own settings," if own else best.number
    note = (
        f"**{study.study_name}**: {len(states)} trials ({counts}) of the {plan.family} family, by "
        f"validation {plan.objective} on `{splits.name}` (digest `{splits.digest}`). Trial "
        f"{name} won with {best.value:.4f}: {params}. It and the hand-made variants, "
        f"{contenders[0].config.epochs} epochs each, on {len(splits.test.images)} test pictures:"
        f"\n\n{comparison.as_text(compared)}\n"
    )
    mlflow.set_tags({"mlflow.note.content": note, "winner_run": contenders[0].run.info.run_id})


def _short(value):
    return f"{value:.3g}" if isinstance(value, float) else value
