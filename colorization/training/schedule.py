"""How learning rates rise and fall over a training, and which networks learn in which epochs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import ops

from colorization.config import Config


class Phase(NamedTuple):
    """Consecutive epochs that train alike."""

    name: str
    epochs: range  # from 0
    rates: dict[str, float]  # the highest learning rate of each optimizer, by the config's names
    finetuning: bool = False  # a pretrained encoder learns as well
    adversarial: bool = False  # a discriminator takes part

    @property
    def joins(self) -> str:
        """What begins to learn in it, where it is not the first one."""
        return "discriminator joins" if self.adversarial else "encoder joins"


def phases(config: Config) -> list[Phase]:
    """Return the phases of a training, one to three.

    First the generator learns alone, then its encoder with it; last, for pix2pix, the generator
    without its encoder against the discriminator.
    """
    end = config.generator_only_epochs
    start = end - config.finetune_epochs
    first = "frozen encoder" if config.finetune_epochs else "generator-only"
    possible = (
        Phase(first, range(start), config.generator_only_rates),
        Phase("fine-tuning", range(start, end), config.finetune_rates, finetuning=True),
        Phase("adversarial", range(end, config.epochs), config.rates, adversarial=True),
    )
    return [each for each in possible if each.epochs]


def phase_of(config: Config, epoch: int) -> Phase:
    """Return the phase of an epoch, which counts from 0."""
    return next(each for each in phases(config) if epoch in each.epochs)


def optimizer_of(trainer: keras.Model, learning_rate: str) -> keras.Optimizer:
    """Return the optimizer of the same name as a learning rate of the config."""
    return getattr(trainer, learning_rate.replace("learning_rate", "optimizer"))


class CosineSchedule(keras.callbacks.Callback):
    """In each phase, lets the learning rates rise, then fall to zero along half a cosine.

    Step by step (Loshchilov and Hutter 2017; the warm-up is that of Goyal et al. 2017), of which an
    epoch has `steps`. Also switches the discriminator on and off, and the layers in `finetuned`,
    which learn only in the fine-tuning phase.
    """

    def __init__(
        self, config: Config, steps: int, finetuned: Sequence[keras.layers.Layer] = ()
    ) -> None:
        super().__init__()
        self.config, self.steps, self.finetuned = config, steps, finetuned

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Enter the epoch's phase."""
        self.phase = phase_of(self.config, epoch)
        self.done = self.phase.epochs.index(epoch) * self.steps
        if hasattr(self.model, "discriminator"):
            self.model.train_generator_only(not self.phase.adversarial)
        if any(layer.trainable != self.phase.finetuning for layer in self.finetuned):
            for layer in self.finetuned:
                layer.trainable = self.phase.finetuning
            self.model.make_train_function(force=True)
        if self.phase.finetuning and self.done == 0:
            # Adam begins again: small second moments would make the first steps far too long.
            for variable in optimizer_of(self.model, self.config.learning_rates[0]).variables:
                variable.assign(ops.zeros(variable.shape, variable.dtype))

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Set the rates for this step."""
        step, steps = self.done + batch, len(self.phase.epochs) * self.steps
        rising = self.config.warmup_ratio * steps
        if step < rising:
            share = (step + 1) / (rising + 1)
        else:
            share = (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2
        for name, rate in self.phase.rates.items():
            optimizer_of(self.model, name).learning_rate = share * rate
