"""How learning rates rise and fall over a training, and who learns when."""

import math
from typing import NamedTuple

import keras
from keras import ops


class Phase(NamedTuple):
    """Epochs in a row, counted from 0, and what is particular to them.

    Attributes:
        epochs: their numbers.
        rates: the highest learning rate of each optimizer.
        finetuning: whether a pretrained encoder learns as well.
        adversarial: whether a discriminator takes part.
    """

    epochs: range
    rates: dict
    finetuning: bool = False
    adversarial: bool = False


class CosineSchedule(keras.callbacks.Callback):
    """Lets the learning rates rise, then fall to zero along half a cosine; in each phase anew.

    Step by step (Loshchilov and Hutter 2017; the warm-up is that of Goyal et al. 2017). And lets
    those learn who are to in that phase.

    Args:
        config: with the rates, and `warmup_ratio`, the share of a phase's steps in which they rise.
        steps: of an epoch.
        finetuned: layers that learn only in the phase for that.
    """

    def __init__(self, config, steps, finetuned=()):
        super().__init__()
        self.config = config
        self.steps = steps
        self.finetuned = finetuned

    def on_epoch_begin(self, epoch, logs=None):
        """Enter the epoch's phase."""
        self.phase = next(each for each in phases(self.config) if epoch in each.epochs)
        self.done = self.phase.epochs.index(epoch) * self.steps
        if hasattr(self.model, "discriminator"):
            self.model.train_generator_only(not self.phase.adversarial)
        if any(layer.trainable != self.phase.finetuning for layer in self.finetuned):
            self._finetune(self.phase.finetuning)

    def on_train_batch_begin(self, batch, logs=None):
        """Set the rates for this step."""
        share = self._share(self.done + batch, len(self.phase.epochs) * self.steps)
        for name, rate in self.phase.rates.items():
            optimizer_of(self.model, name).learning_rate = share * rate

    def _finetune(self, finetuning):
        for layer in self.finetuned:
            layer.trainable = finetuning
        self.model.make_train_function(force=True)
        if finetuning:
            # Adam begins anew, or its first steps for what has not moved yet would be far too long.
            optimizer = optimizer_of(self.model, self.config.learning_rates[0])
            for variable in optimizer.variables:
                variable.assign(ops.zeros(variable.shape, variable.dtype))

    def _share(self, step, steps):
        rising = self.config.warmup_ratio * steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def phases(config):
    """Return the `Phase`s of a training, one to three.

    First the generator learns alone, then its encoder with it; last, for pix2pix, the generator
    without its encoder against the discriminator.
    """
    end = config.generator_only_epochs
    start = end - config.finetune_epochs
    alone = config.generator_only_rates
    slow = alone | {config.learning_rates[0]: config.finetune_learning_rate}
    rates = {name: getattr(config, name) for name in config.learning_rates}
    possible = (
        Phase(range(start), alone),
        Phase(range(start, end), slow, finetuning=True),
        Phase(range(end, config.epochs), rates, adversarial=True),
    )
    return [each for each in possible if each.epochs]


def optimizer_of(trainer, learning_rate):
    """Return the optimizer that a learning rate of the config is for."""
    return getattr(trainer, learning_rate.replace("learning_rate", "optimizer"))
