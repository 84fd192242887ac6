"""How learning rates rise and fall over a training, and when a GAN's two networks meet."""

import math
from typing import NamedTuple

import keras

LEARNING_RATES = {  # of each family; each is that of the optimizer of the same name
    "naive": ("learning_rate",),
    "pix2pix": ("generator_learning_rate", "discriminator_learning_rate"),
}


class Phase(NamedTuple):
    """Epochs in a row, counted from 0, with the highest learning rate of each optimizer."""

    epochs: range
    rates: dict


class CosineSchedule(keras.callbacks.Callback):
    """Lets the learning rates rise, then fall to zero along half a cosine; in each phase anew.

    Step by step (Loshchilov and Hutter 2017; the warm-up is that of Goyal et al. 2017).

    Args:
        config: with the rates, and `warmup_ratio`, the share of a phase's steps in which they rise.
        steps: of an epoch.
    """

    def __init__(self, config, steps):
        super().__init__()
        self.config = config
        self.steps = steps

    def on_epoch_begin(self, epoch, logs=None):
        """Enter the epoch's phase."""
        self.phase = next(each for each in phases(self.config) if epoch in each.epochs)
        self.done = self.phase.epochs.index(epoch) * self.steps
        if self.config.family == "pix2pix":
            self.model.pretrain(epoch < self.config.pretrain_epochs)

    def on_train_batch_begin(self, batch, logs=None):
        """Set the rates for this step."""
        share = self._share(self.done + batch, len(self.phase.epochs) * self.steps)
        for name, rate in self.phase.rates.items():
            optimizer_of(self.model, name).learning_rate = share * rate

    def _share(self, step, steps):
        rising = self.config.warmup_ratio * steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def phases(config):
    """Return the `Phase`s of a training: one, or for pix2pix one without the GAN before it."""
    rates = {name: getattr(config, name) for name in LEARNING_RATES[config.family]}
    if config.family == "naive":
        return [Phase(range(config.epochs), rates)]
    alone = {
        "generator_learning_rate": config.pretrain_learning_rate,
        "discriminator_learning_rate": 0.0,
    }
    start = config.pretrain_epochs
    return [Phase(range(start), alone), Phase(range(start, config.epochs), rates)]


def optimizer_of(trainer, learning_rate):
    """Return the optimizer that a learning rate of the config is for."""
    return getattr(trainer, learning_rate.replace("learning_rate", "optimizer"))
