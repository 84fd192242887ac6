"""One trial: a config is drawn, trained and logged in a run of its own, or given up early."""

import contextlib

import keras
import mlflow
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError, TrialPruned, UpdateFinishedTrialError

from colorization import evaluation, tracking
from colorization.address import redacted
from colorization.training import train

# Not the trial's fault: it is tried again when store and storage are there again.
OUTAGES = (MlflowException, StorageInternalError, OSError)


class TrialFailed(Exception):
    """A training broke down; the next trial may do better."""


class Objective:
    """Trains what an Optuna trial draws, on the training pictures; the test's stay untouched.

    Args:
        plan: of the study.
        splits: that are trained on and validated with.
        data: as the command line names them.
        parent_run_id: of the study's MLflow run.
    """

    def __init__(self, plan, splits, data, parent_run_id):
        self.plan = plan
        self.splits = splits
        self.data = data
        self.parent_run_id = parent_run_id

    def __call__(self, trial):
        """Return the trial's value: the objective of the epoch whose weights are kept.

        Raises:
            TrialPruned: it was given up early.
            TrialFailed: the training broke down.
            UpdateFinishedTrialError: another process has taken the trial over.
        """
        try:
            with tracking.open_run(run_name(trial.number), self.parent_run_id) as run:
                try:
                    trial.set_user_attr("run_id", run.info.run_id)
                    report = self._train(trial)
                except KeyboardInterrupt:
                    with contextlib.suppress(MlflowException):  # the server is gone
                        mlflow.set_tag("state", "killed")
                    raise
                except StorageInternalError:
                    mlflow.set_tag("state", "killed")
                    raise
                except (UpdateFinishedTrialError, *OUTAGES):
                    raise
                except Exception:
                    mlflow.set_tag("state", "failed")
                    raise
        except (UpdateFinishedTrialError, *OUTAGES):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {redacted(error)}".partition("\n")[0]
            trial.set_user_attr("error", reason)
            raise TrialFailed(reason) from error
        if report.pruned:
            raise TrialPruned
        return report.value

    def _train(self, trial):
        tags = {"sweep": "trial", "trial": trial.number, "state": "running"}
        tags["study"] = trial.study.study_name
        told = {name: trial.user_attrs.get(name) for name in ("handmade", "retry_of")}
        mlflow.set_tags(tags | {name: value for name, value in told.items() if value is not None})
        config = self.plan.draw(trial)
        tracking.log_config(config, data=self.data)
        tracking.log_data(self.splits, used=("train", "val"))
        report = Report(trial, self.plan)
        callbacks = [tracking.EpochLog(config, self.splits.val), report]
        result = train.train(config, self.splits, callbacks)
        tracking.log_training(result)
        mlflow.log_metric("value", report.value)
        mlflow.set_tag("state", "pruned" if report.pruned else "finished")
        if report.pruned:
            mlflow.end_run("KILLED")
        return report


class Report(keras.callbacks.Callback):
    """Tells Optuna after each epoch what the training would be worth if it ended here.

    That is the objective in the best epoch so far by the family's criterion, whose weights are
    kept. The hand-made variants are never pruned: the sweep does not end below them.

    Attributes:
        value: what was told last.
        pruned: whether Optuna gave the trial up.
    """

    def __init__(self, trial, plan):
        super().__init__()
        self.trial = trial
        self.plan = plan
        self.kept = evaluation.CRITERIA[plan.family]
        self.best_score = self.value = None
        self.pruned = False

    def on_train_begin(self, logs=None):
        """Keep Keras quiet: a sweep tells a line per trial. Each `clear_session` forgets it."""
        keras.config.disable_interactive_logging()

    def on_epoch_end(self, epoch, logs=None):
        """Report, and stop a training that is not worth its time."""
        score = logs[f"val_{self.kept.metric}"]
        if self.best_score is None or self.kept.better(score, self.best_score):
            self.best_score, self.value = score, float(logs[f"val_{self.plan.objective}"])
        self.trial.report(self.value, epoch + 1)
        last = epoch + 1 == self.plan.epochs
        if not last and "handmade" not in self.trial.user_attrs and self.trial.should_prune():
            self.pruned = self.model.stop_training = True


def run_name(number):
    """Return the name of a trial's MLflow run, by which it is found again."""
    return f"trial {number}"
