"""U-Nets whose encoder has learnt to see from ImageNet: less is left to learn from few birds."""

from pathlib import Path

import keras
from keras import layers

from colorization.config import ENCODER_STAGES
from colorization.models.efficientnet import efficientnet_features, load_imagenet
from colorization.models.heads import add_head, scale_in
from colorization.models.upsampling import resize, resize_and_convolve

MOBILENET_FEATURES = (  # at 1/2, 1/4, ... 1/32 of the size: the widest layers, and the last one
    "block_1_expand_relu",
    "block_3_expand_relu",
    "block_6_expand_relu",
    "block_13_expand_relu",
    "block_16_project_BN",
    "out_relu",  # at 1/32 as well: of its mean, ImageNet's classes are told
)
MOMENTUM = 0.9  # of running means; the encoders' own are for trainings of days
# Chroma of a quarter of the size: photographs with theirs shrunk so and enlarged again are 36.9 dB
# from themselves, far above what any network guesses, and a decoder's finest stages cost most.
CHROMA_STAGE = 2
# The encoders have learnt from pictures of 224 pixels: enlarged, ours show things of such a size.
ENLARGED = 1.5
SUMMARY = 32  # channels: few, and often dropped, or pictures are known by heart
SUMMARY_DROPOUT = 0.5


def build_transfer_unet(
    encoder,
    channels,
    size,
    filters,
    depth,
    dropout,
    head,
    encoder_weights,
    frozen_stages,
    fused=True,
):
    """Build a U-Net around a known encoder, whose weights expect signed pictures as ours are.

    Args:
        encoder: `mobilenet` (V2, Sandler et al. 2018) or `efficientnet` (Lite0, see there).
        channels: of the gray input: 1, or 3 for gray as RGB.
        size: width and height of the pictures, in pixels; divisible by 2**depth.
        filters: channels of the decoder's last stage; doubled with each smaller size.
        depth: stages of the encoder that the decoder begins behind, 2 to 5; with 2, chroma is read
            from the encoder at once.
        dropout: share of channels dropped in the decoder.
        head: `histogram`, `chroma` or `rgb`, see `heads`.
        encoder_weights: `imagenet`, which Keras downloads for MobileNetV2 and a package holds for
            EfficientNet; `none`; or a .weights.h5 file of the encoder.
        frozen_stages: of the encoder, that keep the weights as they were loaded; normalizations
            do in all stages.
        fused: see `resizing`.

    Returns:
        A `keras.Model`: gray levels (N, size, size, channels) to signed RGB (N, size, size, 3);
        and a list of those of its layers that shall learn only while fine-tuning.

    Raises:
        ValueError: the weights cannot be loaded.
    """
    gray = keras.Input((size, size, channels), name="gray")
    signed = scale_in(gray)
    rgb = signed if channels == 3 else layers.Concatenate(name="gray_as_rgb")([signed] * 3)
    rgb = resize(rgb, round(ENLARGED * size))
    try:
        *features, top = ENCODERS[encoder](gray, rgb, encoder_weights)
    except Exception as error:  # Keras raises a bare one where a download fails
        reason = (str(error) or repr(error)).splitlines()[0].rstrip(".")
        raise ValueError(
            f"The encoder's weights cannot be loaded: {reason}. Expected those of {encoder}; "
            "`none` learns them from nothing, `imagenet` needs its download or package. "
            f"Received: encoder_weights={encoder_weights!r}"
        ) from error
    known = keras.Model(gray, [*features, top])
    for layer in known.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM
    finetuned = _freeze(known, frozen_stages) if encoder_weights != "none" else []
    *skips, x = [
        resize(each, size // 2**stage) for stage, each in enumerate(features[:depth], start=1)
    ]
    x = layers.Concatenate()([x, _summary(top, x.shape[1])])
    last = 0 if head == "rgb" else CHROMA_STAGE
    for stage in reversed(range(last, depth)):
        x = resize_and_convolve(x, filters * 2 ** max(stage - 1, 0), fused, use_bias=False)
        x = layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))
        if stage > 0:
            x = layers.Concatenate()([x, skips[stage - 1]])
        x = layers.SpatialDropout2D(dropout)(x) if dropout else x
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(gray, add_head(head, x, signed), name=f"{encoder}_unet"), finetuned


def _freeze(encoder, stages):
    """Freeze an encoder's first stages, and all normalizations; return the layers that are left.

    With statistics of batches of eight instead of ImageNet's, pictures get worse: 24.1 dB instead
    of 25.0 after nine epochs.
    """
    # With its last stage all of it, what tells classes from there too.
    ends = encoder.outputs if stages == ENCODER_STAGES else encoder.outputs[:stages]
    frozen = keras.Model(encoder.input, ends).layers if ends else []
    left = []
    for layer in encoder.layers:
        if layer in frozen or isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
        elif layer.weights:
            left.append(layer)
    return left


def _summary(top, size):
    """Return what the whole picture shows, the same at each place, (N, size, size, SUMMARY).

    A sky is blue, and so is what lies behind a twig before it (Iizuka et al. 2016, in whose network
    global features are also added to those of each place).
    """
    x = layers.GlobalAveragePooling2D(keepdims=True)(top)
    x = layers.Dropout(SUMMARY_DROPOUT)(x)
    x = layers.Conv2D(SUMMARY, 1, activation="relu", name="summary")(x)
    return layers.UpSampling2D(size)(x)


def _mobilenet(gray, rgb, encoder_weights):
    network = keras.applications.MobileNetV2(
        input_shape=rgb.shape[1:],  # ImageNet's weights are those for pictures of this size
        input_tensor=rgb,
        include_top=False,
        weights=None if encoder_weights == "none" else encoder_weights,
    )
    return [network.get_layer(name).output for name in MOBILENET_FEATURES]


def _efficientnet(gray, rgb, encoder_weights):
    features = efficientnet_features(rgb)
    network = keras.Model(gray, features)
    if encoder_weights == "imagenet":
        load_imagenet(network)
    elif encoder_weights != "none":
        network.load_weights(Path(encoder_weights))
    return features


ENCODERS = {"mobilenet": _mobilenet, "efficientnet": _efficientnet}
