"""U-Nets whose encoder was pretrained on ImageNet: few birds have less left to teach."""

from pathlib import Path
from typing import Any

import keras
from keras import layers

from colorization.config import ENCODER_STAGES, PretrainedEncoder
from colorization.models.efficientnet import efficientnet_features, load_imagenet
from colorization.models.heads import Generator, add_head, first_stage, lookup, scale_in
from colorization.models.upsampling import resize, resize_and_convolve

MOBILENET_FEATURES = (  # at 1/2, 1/4, ... 1/32 of the size: the widest layers, and the last one
    "block_1_expand_relu",
    "block_3_expand_relu",
    "block_6_expand_relu",
    "block_13_expand_relu",
    "block_16_project_BN",
    "out_relu",  # at 1/32 as well; its mean is what ImageNet's classifier reads
)
MOMENTUM = 0.9  # of running means; the encoders' own are for trainings of days
# Chroma at a quarter of the size: photographs whose chroma is shrunk so and enlarged again are
# 36.9 dB from themselves, far above any network, and a decoder's finest stages cost most.
CHROMA_STAGE = 2
# The encoders were trained on pictures of 224 pixels: enlarged, ours show things of such a size.
# From 192 pixels on they do so by themselves.
ENLARGED, ENLARGED_SIDE = 1.5, 192
SUMMARY = 32  # channels; more, or with less dropout, memorize the training pictures
SUMMARY_DROPOUT = 0.5


def build_pretrained_unet(config: PretrainedEncoder, size: int, fused: bool = True) -> Generator:
    """Build a U-Net around a pretrained encoder, which reads RGB in [-1, 1].

    The decoder has `depth` stages; with 2, chroma is predicted from the encoder's features at once.
    Frozen stages keep the weights that were loaded, and the normalizations of all stages do.

    Raises:
        ValueError: the weights cannot be loaded.
    """
    depth, filters, dropout = config.depth, config.filters, config.dropout
    gray = keras.Input((size, size, config.gray_channels), name="gray")
    signed = scale_in(gray)
    rgb = signed
    if config.gray_channels == 1:
        rgb = layers.Concatenate(name="gray_as_rgb")([signed] * 3)
    side = max(size, min(round(ENLARGED * size), ENLARGED_SIDE))
    encoder = _build_encoder(config, gray, resize(rgb, side) if side > size else rgb)
    finetuned = _freeze(encoder, config.frozen_stages) if config.encoder_weights != "none" else []
    *features, top = encoder.outputs
    *skips, x = [
        resize(each, size // 2**stage) for stage, each in enumerate(features[:depth], start=1)
    ]
    x = layers.Concatenate()([x, _summary(top, x.shape[1])])
    for stage in reversed(range(first_stage(config.head, CHROMA_STAGE), depth)):
        x = resize_and_convolve(x, filters * 2 ** max(stage - 1, 0), fused, use_bias=False)
        x = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))
        if stage > 0:
            x = layers.Concatenate()([x, skips[stage - 1]])
        x = layers.SpatialDropout2D(dropout)(x) if dropout else x
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    colors = add_head(config.head, x, signed)
    return keras.Model(gray, colors, name=f"{config.encoder}_unet"), finetuned


def _build_encoder(config: PretrainedEncoder, gray: Any, rgb: Any) -> keras.Model:
    """Return a model from gray to features at 1/2 to 1/32 of the size, and those of the top."""
    build_features = lookup(ENCODERS, "encoder", config.encoder)
    try:
        features = build_features(gray, rgb, config.encoder_weights)
    except Exception as error:  # Keras raises a bare one where a download fails
        reason = (str(error) or repr(error)).splitlines()[0].rstrip(".")
        raise ValueError(
            f"The encoder's weights cannot be loaded: {reason}. Expected those of "
            f"{config.encoder}; `none` trains it from scratch, `imagenet` needs its download or "
            f"package. Received: encoder_weights={config.encoder_weights!r}"
        ) from error
    encoder = keras.Model(gray, features)
    for layer in encoder.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM
    return encoder


def _freeze(encoder: keras.Model, stages: int) -> list[layers.Layer]:
    """Freeze an encoder's first stages and all normalizations; return the layers that are left.

    Statistics of batches of eight in place of ImageNet's cost 0.9 dB: 24.1 instead of 25.0 after
    nine epochs.
    """
    # The top goes with the last stage: it has no stage of its own.
    ends = encoder.outputs if stages == ENCODER_STAGES else encoder.outputs[:stages]
    frozen = keras.Model(encoder.input, ends).layers if ends else []
    left = []
    for layer in encoder.layers:
        if layer in frozen or isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
        elif layer.weights:
            left.append(layer)
    return left


def _summary(top: Any, size: int) -> Any:
    """Return what the whole picture shows, the same at each place, (N, size, size, SUMMARY).

    A sky is blue, and so is the sky between twigs (Iizuka et al. 2016 also add global features to
    local ones).
    """
    x = layers.GlobalAveragePooling2D(keepdims=True)(top)
    x = layers.Dropout(SUMMARY_DROPOUT)(x)
    x = layers.Conv2D(SUMMARY, 1, activation="relu", name="summary")(x)
    return layers.UpSampling2D(size)(x)


def _mobilenet(gray: Any, rgb: Any, weights: str) -> list:
    """MobileNetV2 (Sandler et al. 2018); Keras downloads its ImageNet weights."""
    network = keras.applications.MobileNetV2(
        input_shape=rgb.shape[1:],  # ImageNet's weights are those for pictures of this size
        input_tensor=rgb,
        include_top=False,
        weights=None if weights == "none" else weights,
    )
    return [network.get_layer(name).output for name in MOBILENET_FEATURES]


def _efficientnet(gray: Any, rgb: Any, weights: str) -> list:
    """EfficientNet-Lite0; a package holds its ImageNet weights."""
    features = efficientnet_features(rgb)
    network = keras.Model(gray, features)
    if weights == "imagenet":
        load_imagenet(network)
    elif weights != "none":
        network.load_weights(Path(weights))
    return features


ENCODERS = {"mobilenet": _mobilenet, "efficientnet": _efficientnet}
"""By the names that `config.ENCODERS` offers: functions of the gray input, of signed RGB made of
it, and of weights: `imagenet`, `none` or the path of a .weights.h5 file."""
