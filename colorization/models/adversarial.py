"""The keras.Model that trains a generator and a discriminator against each other."""

import keras
import tensorflow as tf
from keras import ops


class Pix2Pix(keras.Model):
    """A conditional GAN with an L1 term (Isola et al. 2017), updated alternately.

    Where a `tf.distribute.Strategy` shares a batch among replicas, each one's losses are its
    share of the batch's: Keras's optimizers add up the gradients.

    Args:
        generator: gray levels (N, S, S, 3) to signed RGB (N, S, S, 3).
        discriminator: [gray levels, signed RGB] to logits (N, h, w, 1).
    """

    def __init__(self, generator, discriminator):
        super().__init__(name="pix2pix")
        self.generator = generator
        self.discriminator = discriminator
        names = ("generator_loss", "adversarial_loss", "l1_loss", "discriminator_loss")
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}

    def compile(self, generator_optimizer, discriminator_optimizer, l1_weight, gan_loss):
        """Set the two optimizers, the weight of L1 and `gan_loss`: `bce` or `lsgan`.

        `lsgan` is least squares on the logits (Mao et al. 2017).
        """
        super().compile()
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        # Now, since no variable can be created where replicas take a step.
        generator_optimizer.build(self.generator.trainable_variables)
        discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.l1_weight = l1_weight
        self.judge = {
            "bce": keras.losses.BinaryCrossentropy(from_logits=True),
            "lsgan": keras.losses.MeanSquaredError(),
        }[gan_loss]

    @property
    def metrics(self):
        """The running means of the losses, reset by Keras each epoch."""
        return list(self.trackers.values())

    def call(self, gray, training=False):
        """Return the generator's signed RGB (N, S, S, 3) for gray levels (N, S, S, 3)."""
        return self.generator(gray, training=training)

    def train_step(self, data):
        """Update the discriminator, then the generator against the updated one, on one batch."""
        gray, real, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as generator_tape:
            fake = self.generator(gray, training=True)
            with tf.GradientTape() as tape:
                judged = self._judge_both(gray, real, tf.stop_gradient(fake), training=True)
            self._apply(tape, judged, self.discriminator, self.discriminator_optimizer)
            losses = self._judge_fake(gray, real, fake, training=True)
        self._apply(
            generator_tape, losses["generator_loss"], self.generator, self.generator_optimizer
        )
        return self._track({**losses, "discriminator_loss": judged})

    def test_step(self, data):
        """Return the same losses, without updates."""
        gray, real, _ = keras.utils.unpack_x_y_sample_weight(data)
        fake = self.generator(gray, training=False)
        judged = self._judge_both(gray, real, fake, training=False)
        losses = self._judge_fake(gray, real, fake, training=False)
        return self._track({**losses, "discriminator_loss": judged})

    def _judge_both(self, gray, real, fake, training):
        """Return the discriminator's loss, halved as in the paper to slow it down."""
        on_real = self.discriminator([gray, real], training=training)
        on_fake = self.discriminator([gray, fake], training=training)
        real_loss = self.judge(ops.ones_like(on_real), on_real)
        return (real_loss + self.judge(ops.zeros_like(on_fake), on_fake)) / 2

    def _judge_fake(self, gray, real, fake, training):
        on_fake = self.discriminator([gray, fake], training=training)
        adversarial = self.judge(ops.ones_like(on_fake), on_fake)
        l1 = ops.mean(ops.abs(real - fake)) / _replicas()  # as Keras's losses in `judge` do
        total = adversarial + self.l1_weight * l1
        return {"generator_loss": total, "adversarial_loss": adversarial, "l1_loss": l1}

    def _apply(self, tape, loss, network, optimizer):
        weights = network.trainable_weights
        optimizer.apply(tape.gradient(loss, weights), weights)

    def _track(self, losses):
        for name, value in losses.items():
            self.trackers[name].update_state(value * _replicas())
        return {name: tracker.result() for name, tracker in self.trackers.items()}


def _replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync
