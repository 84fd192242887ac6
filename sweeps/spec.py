"""The plan of a study: what is searched, by what, on what."""

from dataclasses import dataclass

from sweeps import space

# Each with its direction, as Optuna names it.
OBJECTIVES = {
    "color_error": "minimize",
    "delta_e": "minimize",
    "psnr": "maximize",
    "ssim": "maximize",
}


@dataclass(frozen=True)
class Plan:
    """What all trials of a study have in common; without it they could not be compared.

    Attributes:
        family: `naive` or `pix2pix`.
        objective: a key of `OBJECTIVES`, measured on the validation pictures.
        fix: of `space.parse_fix`.
        epochs: of a trial that is not pruned.
        seed: of the sampler, and of every training.
        digest: of the pictures.
    """

    family: str
    objective: str
    fix: dict
    epochs: int
    seed: int
    digest: str

    @property
    def direction(self):
        """Whether Optuna shall `minimize` or `maximize` the objective."""
        return OBJECTIVES[self.objective]

    def handmade(self, epochs=None):
        """Return the hand-made variants as far as `fix` lets them: name to config."""
        flags = {"epochs": epochs or self.epochs, "seed": self.seed}
        return space.handmade(self.family, self.fix, **flags)

    def draw(self, trial):
        """Let an Optuna trial choose a config."""
        return space.draw(trial, self.family, self.fix, epochs=self.epochs, seed=self.seed)

    def config_of(self, trial, epochs):
        """Return the config of a finished trial, to be trained for another number of epochs."""
        if "handmade" in trial.user_attrs:
            return self.handmade(epochs)[trial.user_attrs["handmade"]]
        flags = {"epochs": epochs, "seed": self.seed}
        return space.config_of(trial.params, self.family, self.fix, **flags)
