"""The probe of imported weights looks at a network, and leaves it as it was."""

import keras
import numpy as np
from keras import layers

from serve.importing import value_range


def test_the_probe_leaves_the_statistics_of_batch_normalization():
    gray = keras.Input((32, 32, 1))
    same = layers.BatchNormalization()(gray)
    network = keras.Model(gray, layers.Concatenate()([same, same, same]))
    before = network.get_weights()
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
    value_range.probe(network, images)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_levels_from_a_last_layer_without_bounds_are_recognized():
    gray = keras.Input((32, 32, 1))
    levels = layers.Rescaling(255)(gray)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
    found = value_range.probe(keras.Model(gray, layers.Concatenate()([levels] * 3)), images)
    assert (found.input, found.output) == ("0..1", "0..255") and found.luma_error < 1
