"""How fast a training step is, beside a tutorial's loop: `python -m benchmarks.step`.

The same networks (the tutorial's of stock layers), optimizers and pictures, in turns. A quarter of
an hour on two cores.
"""

import dataclasses
import functools
import os
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from benchmarks.machine import peak_memory
from benchmarks.table import Row, median_ratio, print_table, seconds_of, side_by_side

STEPS = 24  # in each turn
TURNS = 9
BIRDS = 256
STOCK = "of stock layers alone"
# Name -> changes of the config, and of the Keras trainer.
XLA = {"compiled by XLA, both not deterministic": ({}, {"jit_compile": True})}
TRIED = {
    STOCK: ({}, {}),
    "with 8 steps per execution": ({}, {"steps_per_execution": 8}),
    "with batches of 4": ({"batch_size": 4}, {}),
    "with batches of 16": ({"batch_size": 16}, {}),
    "with batches of 32": ({"batch_size": 32}, {}),
    "in mixed_bfloat16": ({"precision": "mixed_bfloat16"}, {}),
}


def tutorial_naive(generator, pixel_loss):
    """A tutorial's training step of an autoencoder: a tape, and a loop over the batches."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(1e-3)

    @tf.function
    def step(gray, real):
        with tf.GradientTape() as tape:
            loss = pixel_loss(real, generator(gray, training=True))
        gradients = tape.gradient(loss, generator.trainable_variables)
        optimizer.apply_gradients(zip(gradients, generator.trainable_variables, strict=True))
        return loss

    return step


def tutorial_pix2pix(generator, discriminator):
    """The training step of TensorFlow's pix2pix tutorial: two tapes, one pass, two updates."""
    import keras
    import tensorflow as tf

    of_generator, of_discriminator = (keras.optimizers.Adam(2e-4, 0.5) for _ in range(2))
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(gray, real):
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake = generator(gray, training=True)
            on_real = discriminator([gray, real], training=True)
            on_fake = discriminator([gray, fake], training=True)
            l1 = tf.reduce_mean(tf.abs(real - fake))
            generator_loss = cross_entropy(tf.ones_like(on_fake), on_fake) + 100 * l1
            discriminator_loss = cross_entropy(tf.ones_like(on_real), on_real) + cross_entropy(
                tf.zeros_like(on_fake), on_fake
            )
        for tape, loss, network, optimizer in (
            (generator_tape, generator_loss, generator, of_generator),
            (discriminator_tape, discriminator_loss, discriminator, of_discriminator),
        ):
            gradients = tape.gradient(loss, network.trainable_variables)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return generator_loss, discriminator_loss, l1

    return step


def tutorial_loop(config):
    """Return the function that trains on pairs as a tutorial does."""
    import keras

    from colorization.models import build

    trainer = build.build(config, 128, fused=False).trainer
    if config.family == "pix2pix":
        step = tutorial_pix2pix(trainer.generator, trainer.discriminator)
    else:
        step = tutorial_naive(trainer, keras.losses.MeanAbsoluteError())

    def loop(pairs):
        for gray, real in pairs:
            step(gray, real)

    return loop


def our_loop(config, settings=None, fused=True):
    """Return the function that trains on pairs as `training.train` does, less its callbacks.

    Args:
        config: of the variant.
        settings: of the Keras trainer, by attribute.
        fused: see `colorization.models.upsampling`.
    """
    from colorization.models import build

    trainer = build.build(config, 128, fused=fused).trainer
    for attribute, value in (settings or {}).items():
        setattr(trainer, attribute, value)
    return lambda pairs: trainer.fit(pairs, verbose=0, shuffle=False)


def held_batch(config):
    """Return the same batch again and again: the step alone, input has its own benchmark."""
    from colorization.data import pipeline

    images = np.random.default_rng(0).integers(0, 256, (config.batch_size, 128, 128, 3), np.uint8)
    pairs = pipeline.training_pairs(images, config.gray_channels, config.batch_size, 0, config.crop)
    return pairs.take(1).cache().repeat(STEPS * 8 // config.batch_size)


def make_deterministic():
    """Make this process as reproducible as `training.train` does."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()


def compare(name: str) -> list[Row]:
    """Return the rows of one variant."""
    from colorization.config import VARIANTS

    make_deterministic()
    config = VARIANTS[name]
    pairs = held_batch(config)
    loops = [our_loop(config), tutorial_loop(config)]
    turns = [[seconds_of(loop, pairs) for loop in loops] for _ in range(TURNS + 1)]
    first, *turns = turns  # the first one compiles
    medians = [statistics.median(turn[which] for turn in turns) for which in (0, 1)]
    speeds = [STEPS * config.batch_size / seconds for seconds in medians]
    ratio = statistics.median(plain / ours for ours, plain in turns)
    compiling = [max(0, one - other) for one, other in zip(first, medians, strict=True)]
    return [
        Row(
            f"`{name}`: images a second / of a tutorial's loop",
            f"{ratio:.2f} ({speeds[0]:.0f}/s, {speeds[1]:.0f}/s)",
            ">= 1.1",
        ),
        Row(
            f"`{name}`: seconds to compile, ours and the tutorial's",
            "{:.1f} s, {:.1f} s".format(*compiling),
        ),
    ]


def compare_settings(name: str, tried: dict, deterministic: bool) -> list[Row]:
    """Return the rows of one variant with other settings than its own, see `TRIED`."""
    from colorization.config import VARIANTS

    if deterministic:
        make_deterministic()
    calls = []
    for each, (changes, settings) in [("", ({}, {})), *tried.items()]:
        config = dataclasses.replace(VARIANTS[name], **changes)
        loop = our_loop(config, settings, fused=each != STOCK)
        calls.append(functools.partial(loop, held_batch(config)))
    compiling = [seconds_of(call) for call in calls]
    unchanged, *others = side_by_side(*calls, rounds=TURNS // 2)
    return [
        Row(
            f"`{name}`: images a second {each} / by default",
            f"{median_ratio(unchanged, seconds):.2f} (first turn {first:.0f} s)",
        )
        for each, seconds, first in zip(tried, others, compiling[1:], strict=True)
    ]


def measure_memory(name: str) -> list[Row]:
    """Return the row of a whole training's peak memory; to be called in a process of its own."""
    from types import SimpleNamespace

    from colorization.config import VARIANTS
    from colorization.training import train

    images = np.random.default_rng(0).integers(0, 256, (BIRDS, 128, 128, 3), np.uint8)
    split = SimpleNamespace(images=images)
    config = dataclasses.replace(VARIANTS[name], epochs=1)
    train.train(config, SimpleNamespace(train=split, val=split))
    what = f"`{name}`: peak memory of a training, scoring and libraries included"
    return [Row(what, f"{peak_memory():.0f} MiB")]


def measure() -> Iterator[Row]:
    """Measure each variant, in processes of their own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from colorization.config import VARIANTS

    jobs = [
        (what, name)
        for name in VARIANTS
        if VARIANTS[name].compared
        for what in (compare, measure_memory)
    ]
    for name in ("naive_basic", "pix2pix"):
        # Keras does not compile by XLA what is to be deterministic.
        jobs += [(compare_settings, name, XLA, False), (compare_settings, name, TRIED, True)]
    for job in jobs:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            yield from pool.submit(*job).result()


def main() -> None:
    """Measure and print."""
    print_table(measure())


if __name__ == "__main__":
    main()
