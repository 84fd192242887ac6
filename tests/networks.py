"""Small real networks of known colors, for tests of what becomes of them."""

import dataclasses

import keras
from keras import layers

from colorization import color, experiment, tracking
from colorization.config import VARIANTS, with_size
from colorization.registry import lookup


def with_chroma(planes, channels=1, size=128):
    """A colorizer that lays on its luma the chroma that `planes` makes of the luma, in levels."""
    gray = keras.Input((size, size, channels))
    mean = keras.initializers.Constant(1 / channels)
    luma = layers.Conv2D(1, 1, use_bias=False, kernel_initializer=mean)(gray)
    join = layers.Conv2D(3, 1, use_bias=False)
    rgb = join(layers.Concatenate()([luma, planes(luma)]))
    join.set_weights([color.YCBCR_TO_RGB[None, None]])
    return keras.Model(gray, layers.ReLU(max_value=color.MAX_LEVEL)(rgb))


def memory(images, chroma, channels=1):
    """A colorizer that knows pictures by their mean luma; `chroma` (N, S, S, 2) is theirs."""
    means, size = color.luma(images).mean(axis=(1, 2, 3)) - 128, images.shape[1]
    which = layers.Dense(len(images), activation="softmax")
    colors = layers.Dense(2 * size**2, use_bias=False)

    def planes(luma):
        mean = layers.GlobalAveragePooling2D()(layers.Rescaling(1.0, offset=-128.0)(luma))
        return layers.Reshape((size, size, 2))(colors(which(mean)))

    network = with_chroma(planes, channels, size)
    which.set_weights([40 * 2 * means[None], -40 * means**2])  # the nearest mean is the largest
    colors.set_weights([chroma.reshape(len(images), -1)])
    return network


def tiny_encoder(gray, rgb, weights):
    """Stand where EfficientNet does in a U-Net, but built in no time: features of five sizes."""
    features = [rgb]
    for _ in range(5):
        features.append(layers.Conv2D(8, 3, 2, padding="same", activation="relu")(features[-1]))
    return [*features[1:], layers.Conv2D(8, 1)(features[-1])]


def log_network(network, splits, variant="naive_basic"):
    """Log a network in a run as training does; return its candidate."""
    size = splits.test.images.shape[1]
    config = dataclasses.replace(with_size(VARIANTS[variant], size), filters=4)
    with tracking.open_run("candidate") as run:
        tracking.log_config(config, data=splits.uri.removeprefix("file://"))
        tracking.log_data(splits)
        experiment.log_colorizer(config, network, splits, origin="")
    return lookup.find(run.info.run_id)
