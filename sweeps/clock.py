"""How long a study still takes in all: its trials, and what is trained in full after them."""

import dataclasses
import math
import time
from statistics import fmean
from typing import NamedTuple

import optuna

from colorization import plan
from colorization.config import Config
from sweeps.space import Spec
from sweeps.study import finals, running, spent


class Clock(NamedTuple):
    """The time of a study.

    Attributes:
        trials: of the whole study.
        final_epochs: of what is trained in full after them; 0 for nothing.
        pictures: of an epoch.
        deadline: of all, by `time.monotonic`.
    """

    trials: int
    final_epochs: int = 0
    pictures: int = 0
    deadline: float = math.inf

    def plan(self, study: optuna.Study, spec: Spec) -> str:
        """Say what the study trains in all, and how long what is left of it takes."""
        text = f"in all: {plan.counted(self.trials, 'trial')} "
        text += f"of {plan.counted(spec.epochs, 'epoch')}, "
        text += f"the presets first ({', '.join(spec.presets())})"
        if self.final_epochs:
            text += "; then the winner and each preset that is another network, "
            text += f"{plan.counted(self.final_epochs, 'epoch')} each"
        if done := self._ended(study):
            text += f"; {done} of them {'is' if done == 1 else 'are'} done"
        return f"{text}; about {self.left(study, spec)}, {plan.ESTIMATE_OF}"

    def left(self, study: optuna.Study, spec: Spec) -> str:
        """Return the time that is left for all of it; the processes of the study share trials."""
        trials = max(0, self.trials - self._ended(study)) / max(1, len(running(study)))
        return plan.duration(self._seconds(study, spec, trials))

    def allows_another(self, study: optuna.Study, spec: Spec) -> bool:
        """Tell whether a trial that begins now, and what comes after it, will end in time.

        Where no trial has finished yet, there is nothing that could come after it.
        """
        seconds = self._seconds(study, spec, 1) if study.best_trials else 0
        return time.monotonic() + seconds < self.deadline

    @staticmethod
    def _ended(study: optuna.Study) -> int:
        return sum(trial.state.is_finished() for trial in spent(study))

    def _seconds(self, study: optuna.Study, spec: Spec, trials: float) -> float:
        expected = trials * fmean(self._expected(each) for each in spec.presets().values())
        if self.final_epochs:
            full = dataclasses.replace(spec, epochs=self.final_epochs)
            expected += sum(self._expected(each) for each in finals(study, full))
        return expected * self._slowness(study, spec)

    def _expected(self, config: Config) -> float:
        return plan.seconds(config, self.pictures)

    def _slowness(self, study: optuna.Study, spec: Spec) -> float:
        """Return how many times as long as expected the trials have taken so far."""
        took = expected = 0.0
        for trial in study.get_trials(deepcopy=False):
            if trial.duration and trial.last_step:
                took += trial.duration.total_seconds()
                config = spec.config_of(trial.params)
                expected += self._expected(dataclasses.replace(config, epochs=trial.last_step))
        return took / expected if expected else 1.0
