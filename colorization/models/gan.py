"""The keras.Model that trains a generator and a discriminator against each other."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

Losses = dict[str, Any]


class Pix2Pix(keras.Model):
    """A conditional GAN with an L1 term (Isola et al. 2017), updated alternately.

    While `generator_only` is True the generator learns without the discriminator: from L1, or from
    the loss of its color scores if it has them. A discriminator teaches more once the generator
    knows most colors (as DeOldify's "NoGAN" found). `train_generator_only` switches the phase.

    Where a `tf.distribute.Strategy` shares a batch among replicas, each replica divides its losses
    by the number of replicas, since Keras's optimizers add up the gradients.

    The generator maps gray levels (N, S, S, 3) to signed RGB (N, S, S, 3), the discriminator both
    to logits (N, h, w, 1). The scorer has the generator's weights and maps gray levels to color
    scores, see `color_bins`, where the head has any.
    """

    def __init__(
        self, generator: keras.Model, discriminator: keras.Model, scorer: keras.Model | None = None
    ) -> None:
        super().__init__(name="pix2pix")
        self.generator, self.discriminator, self.scored = generator, discriminator, None
        if scorer:  # one pass for both outputs
            self.scored = keras.Model(generator.input, [generator.output, scorer.output])
        names = ("generator_loss", "adversarial_loss", "l1_loss", "discriminator_loss")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self.generator_only = False

    def compile(
        self,
        generator_optimizer: keras.Optimizer,
        discriminator_optimizer: keras.Optimizer,
        l1_weight: float,
        gan_loss: Callable[[bool, Any], Any],
        scores_loss: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        """Set the two optimizers, the weight of L1, and the losses, see `losses` and `heads`."""
        super().compile()
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        # Now, since no variable can be created where replicas take a step.
        generator_optimizer.build(self.generator.trainable_variables)
        discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.l1_weight, self.gan_loss, self.scores_loss = l1_weight, gan_loss, scores_loss

    @property
    def metrics(self) -> list[keras.Metric]:
        """The running means of the losses, reset by Keras each epoch."""
        return list(self.trackers.values())

    def call(self, gray: Any, training: bool = False) -> Any:
        """Return the generator's signed RGB (N, S, S, 3) for gray levels (N, S, S, 3)."""
        return self.generator(gray, training=training)

    def train_generator_only(self, generator_only: bool) -> None:
        """Let the generator learn alone, or against the discriminator, from the next step on."""
        if generator_only != self.generator_only:
            self.generator_only = generator_only
            self.make_train_function(force=True)
            self.make_test_function(force=True)

    def train_step(self, data: Any) -> Losses:
        """Update the discriminator, then the generator against the updated one, on one batch.

        In the generator-only phase only the generator is updated, and the discriminator's losses
        are 0.
        """
        gray, real, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.generator_only:
            with tf.GradientTape() as tape:
                losses = self._generator_only_losses(gray, real, training=True)
            self._apply(tape, losses["generator_loss"], self.generator, self.generator_optimizer)
            return self._track(losses)
        with tf.GradientTape() as outer:
            fake = self.generator(gray, training=True)
            with tf.GradientTape() as tape:
                loss = self._discriminator_loss(gray, real, tf.stop_gradient(fake), training=True)
            self._apply(tape, loss, self.discriminator, self.discriminator_optimizer)
            losses = self._generator_losses(gray, real, fake, training=True)
        self._apply(outer, losses["generator_loss"], self.generator, self.generator_optimizer)
        return self._track({**losses, "discriminator_loss": loss})

    def test_step(self, data: Any) -> Losses:
        """Return the same losses, without updates."""
        gray, real, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.generator_only:
            return self._track(self._generator_only_losses(gray, real, training=False))
        fake = self.generator(gray, training=False)
        loss = self._discriminator_loss(gray, real, fake, training=False)
        losses = self._generator_losses(gray, real, fake, training=False)
        return self._track({**losses, "discriminator_loss": loss})

    def _generator_only_losses(self, gray: Any, real: Any, training: bool) -> Losses:
        if self.scored and self.scores_loss:
            fake, scores = self.scored(gray, training=training)
            l1 = self._l1(real, fake)
            loss = ops.mean(self.scores_loss(real, scores)) / _replicas()
        else:
            loss = l1 = self._l1(real, self.generator(gray, training=training))
        return dict.fromkeys(self.trackers, 0.0) | {"generator_loss": loss, "l1_loss": l1}

    def _discriminator_loss(self, gray: Any, real: Any, fake: Any, training: bool) -> Any:
        """Return the discriminator's loss, halved as in the paper to slow it down."""
        on_real = self.discriminator([gray, real], training=training)
        on_fake = self.discriminator([gray, fake], training=training)
        return (self.gan_loss(True, on_real) + self.gan_loss(False, on_fake)) / 2 / _replicas()

    def _generator_losses(self, gray: Any, real: Any, fake: Any, training: bool) -> Losses:
        on_fake = self.discriminator([gray, fake], training=training)
        adversarial = self.gan_loss(True, on_fake) / _replicas()
        l1 = self._l1(real, fake)
        total = adversarial + self.l1_weight * l1
        return {"generator_loss": total, "adversarial_loss": adversarial, "l1_loss": l1}

    def _l1(self, real: Any, fake: Any) -> Any:
        return ops.mean(ops.abs(real - fake)) / _replicas()

    def _apply(
        self, tape: tf.GradientTape, loss: Any, network: keras.Model, optimizer: keras.Optimizer
    ) -> None:
        weights = network.trainable_weights
        optimizer.apply(tape.gradient(loss, weights), weights)

    def _track(self, losses: Losses) -> Losses:
        for name, value in losses.items():
            self.trackers[name].update_state(value * _replicas())
        return {name: tracker.result() for name, tracker in self.trackers.items()}


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync
