import dataclasses

import keras
import numpy as np
import pytest

from colorization import color
from colorization.config import HEADS, PRECISIONS, VARIANTS, PretrainedEncoder
from colorization.models import build, pretrained_unet
from colorization.models.export import TOLERANCE, export_onnx
from colorization.models.heads import computing_in
from colorization.models.onnx_colorizer import OnnxColorizer
from colorization.models.pix2pix import build_patchgan
from colorization.models.upsampling import resize_and_convolve
from colorization.training import callbacks
from tests.networks import tiny_encoder

RGB = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")


@pytest.fixture
def tiny(monkeypatch):
    """Encoders that are built in no time: `test_pretrained_unet` is about the real ones."""
    monkeypatch.setitem(pretrained_unet.ENCODERS, "efficientnet", tiny_encoder)


def small(variant, **changes):
    own = {"encoder_weights": "none"} if isinstance(VARIANTS[variant], PretrainedEncoder) else {}
    return dataclasses.replace(VARIANTS[variant], **{"filters": 4, "depth": 3, **own, **changes})


def tensors(config):
    """The pictures, gray and signed RGB, as an eager step of training takes them."""
    gray, real = color.gray_input(RGB, config.gray_channels), color.to_signed(RGB.astype("f4"))
    return keras.ops.convert_to_tensor(gray), keras.ops.convert_to_tensor(real)


def shaken(colorizer):
    """Give all weights random values: fresh ones would hide what a trained network does.

    Kernels such that values stay about as large as they are: growing, they magnify rounding.
    """
    rng = np.random.default_rng(1)

    def random_like(array):
        if array.ndim < 4:
            return np.abs(rng.normal(0, 0.3, array.shape)) + 0.01
        depthwise = array.shape[-1] == 1
        inputs = np.prod(array.shape[: 2 if depthwise else 3])
        return rng.normal(0, inputs**-0.5, array.shape)

    colorizer.set_weights([random_like(each) for each in colorizer.get_weights()])
    if "color_scores" in [layer.name for layer in colorizer.layers]:
        _doubt(colorizer)
    return colorizer


def _doubt(colorizer):
    """Make the scores of colors so small that several are likely: one alone would hide a lot."""
    scores = colorizer.get_layer("color_scores")
    gray = color.gray_input(RGB, colorizer.input_shape[-1])
    largest = np.abs(keras.Model(colorizer.input, scores.output)(gray)).max()
    scores.set_weights([weight * 5 / largest for weight in scores.get_weights()])


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_colorizer_keeps_its_contract(variant, head):
    config = small(variant, head=head)
    colorizer = shaken(build.build(config, 32).colorizer)
    channels = config.gray_channels
    assert colorizer.input_shape == (None, 32, 32, channels)
    assert channels == (3 if config.family == "pix2pix" else 1)
    colors = np.asarray(colorizer(color.gray_input(RGB, channels)))
    assert colors.shape == (4, 32, 32, 3)
    assert 0 <= colors.min() < colors.max() <= 255
    assert np.ptp(colors, axis=-1).max() > 5  # there is color


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_head_of_chroma_keeps_the_luma_and_begins_as_gray(variant, precision):
    config = small(variant, precision=precision)
    colorizer = build.build(config, 32).colorizer
    gray = color.gray_input(RGB, config.gray_channels)
    np.testing.assert_allclose(colorizer(gray), np.repeat(gray[..., :1], 3, -1), atol=1e-3)
    shaken(colorizer)
    generator = keras.Model(colorizer.input, colorizer.get_layer("to_levels").input)
    signed = np.asarray(generator(gray))  # unclipped
    luma = color.to_levels(signed) @ color.LUMA
    np.testing.assert_allclose(luma, gray[..., 0], atol=0.05)
    assert np.ptp(signed, axis=-1).max() > 0.02


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "naive_efficientnet" else ())
        for name in VARIANTS
    ],
)
def test_a_colorizer_survives_saving_and_onnx(variant, tmp_path, request):
    if variant != "naive_efficientnet":  # one export of the real encoder is enough
        request.getfixturevalue("tiny")
    config = small(variant)
    colorizer = shaken(build.build_plain(config, 32))
    gray = color.gray_input(RGB, config.gray_channels)
    expected = np.asarray(colorizer(gray))
    colorizer.save(tmp_path / "generator.keras")
    loaded = keras.models.load_model(tmp_path / "generator.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(gray), expected, atol=1e-3)
    export_onnx(colorizer, tmp_path / "generator.onnx", gray)
    colorize = OnnxColorizer(tmp_path / "generator.onnx", batch_size=3)
    atol = (
        TOLERANCE if isinstance(VARIANTS[variant], PretrainedEncoder) else 0.01
    )  # deeper ones round more often
    np.testing.assert_allclose(colorize(gray), expected, atol=atol)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", ["naive_deep", "pix2pix"])
def test_mixed_precision_is_for_the_inner_layers_only(variant, head):
    trainer, colorizer, _ = build.build(small(variant, head=head, precision="mixed_bfloat16"), 32)
    networks = [trainer.generator, trainer.discriminator] if variant == "pix2pix" else [trainer]
    for network in networks:
        layers = [each for each in network.layers if isinstance(each, keras.layers.Conv2D)]
        in_head = 2 if head == "histogram" and network.name != "patchgan" else 1
        assert {layer.compute_dtype for layer in layers[:-in_head]} == {"bfloat16"}
        assert {layer.compute_dtype for layer in layers[-in_head:]} == {"float32"}
        assert network.output.dtype == colorizer.output.dtype == "float32"
        assert {weight.dtype for weight in network.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_a_network_that_cannot_be_built_leaves_no_precision_behind():
    with pytest.raises(ValueError), computing_in("mixed_bfloat16"):
        raise ValueError
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("variant", ["naive_deep", "pix2pix"])
def test_what_is_kept_of_a_mixed_network_is_the_float32_one(variant, tmp_path):
    config = small(variant, precision="mixed_bfloat16")
    mixed = shaken(build.build(config, 32, synchronized=True).colorizer)
    exact = build.build(dataclasses.replace(config, precision="float32"), 32).colorizer
    plain, gray = build.build_plain(config, 32), color.gray_input(RGB, config.gray_channels)
    for network in (exact, plain):
        network.set_weights(mixed.get_weights())
    np.testing.assert_allclose(plain(gray), exact(gray), atol=1e-2)
    assert np.abs(np.asarray(mixed(gray)) - plain(gray)).max() > TOLERANCE  # a real difference
    assert not any(getattr(layer, "synchronized", False) for layer in plain.layers)
    assert all(type(layer).__module__.startswith("keras.src") for layer in plain.layers)
    assert export_onnx(plain, tmp_path / "generator.onnx", gray) <= TOLERANCE


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_fused_resized_convolution_is_keras_s_own_two_layers_and_so_are_its_gradients(use_bias):
    import tensorflow as tf

    x = tf.random.stateless_normal((2, 5, 7, 3), [0, 1])
    weigh = tf.random.stateless_normal((2, 10, 14, 4), [0, 2])
    outcomes, weights = [], None
    for fused in (True, False):
        entry = keras.Input((5, 7, 3))
        network = keras.Model(entry, resize_and_convolve(entry, 4, fused, use_bias=use_bias))
        weights = weights or [np.asarray(each) for each in shaken(network).get_weights()]
        network.set_weights(weights)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = network(x)
            total = tf.reduce_sum(weigh * y)
        outcomes.append([y, *tape.gradient(total, [x, *network.trainable_variables])])
        assert network.output_shape == (None, 10, 14, 4)
    for ours, stock in zip(*outcomes, strict=True):
        np.testing.assert_allclose(ours, stock, rtol=1e-4, atol=1e-4)


def test_an_exported_model_that_cannot_be_trusted_is_refused(tmp_path):
    colorizer = build.build(small("naive_basic"), 32).colorizer
    broken = colorizer.get_weights()
    broken[-1][:] = np.nan
    colorizer.set_weights(broken)
    with pytest.raises(ValueError, match="not the trained one"):
        export_onnx(colorizer, tmp_path / "generator.onnx", color.gray_input(RGB, 1))


class Fickle(keras.layers.Layer):
    """Computes something else once it is exported."""

    def call(self, x):
        import tensorflow as tf

        return x + (1.0 if tf.executing_eagerly() else 0.0)


def test_an_exported_model_that_computes_something_else_is_refused(tmp_path):
    gray = keras.Input((32, 32, 1))
    colorizer = keras.Model(gray, keras.layers.Concatenate()([Fickle()(gray), gray, gray]))
    colorizer(np.ones((1, 32, 32, 1), "float32"))
    with pytest.raises(ValueError, match="within 0.05 levels of Keras's. Received: difference=1.0"):
        export_onnx(colorizer, tmp_path / "generator.onnx", color.gray_input(RGB, 1))


def test_the_variants_differ_as_their_names_say():
    def layers(variant):
        built = build.build(small(variant, dropout=VARIANTS[variant].dropout), 32).colorizer
        return [type(layer).__name__ for layer in built.layers]

    assert not any("Dropout" in name for name in layers("naive_basic"))
    assert any("Dropout" in name for name in layers("naive_dropout"))
    assert "BatchNormalization" in layers("naive_deep")
    assert "BatchNormalization" not in layers("naive_basic")


def test_the_default_pix2pix_is_the_paper_s_scaled_to_128_pixels():
    config = VARIANTS["pix2pix"]
    trainer = build.build(config, 128).trainer
    bottleneck = min(layer.output.shape[1] for layer in trainer.generator.layers)
    assert bottleneck == 1
    assert trainer.discriminator.output_shape == (None, 16, 16, 1)
    for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer):
        assert float(optimizer.learning_rate) == pytest.approx(2e-4)
        assert optimizer.beta_1 == 0.5


@pytest.mark.parametrize(("halved", "pixels_seen"), [(False, 70), (True, 68)])
def test_each_patch_score_sees_70_pixels(halved, pixels_seen):
    """Isola et al. 2017: change one pixel, and only the scores within 35 pixels of it may move."""
    discriminator = build_patchgan(128, 4, halved)
    assert discriminator.output_shape == (None, 16, 16, 1)
    # Normalization looks at the whole picture; the receptive field is that of the convolutions.
    field = 1
    for layer in reversed(discriminator.layers):
        if isinstance(layer, keras.layers.Conv2D):
            field = (field - 1) * layer.strides[0] + layer.kernel_size[0]
        elif isinstance(layer, keras.layers.AveragePooling2D):
            field = (field - 1) * layer.strides[0] + layer.pool_size[0]
    assert field == pixels_seen


def test_a_discriminator_is_conditional():
    trainer = build.build(small("pix2pix"), 32).trainer
    gray, other = color.gray_input(RGB, 3), color.gray_input(RGB[::-1], 3)
    rgb = color.to_signed(RGB.astype("float32"))
    logits = trainer.discriminator([gray, rgb])
    assert not np.allclose(logits, trainer.discriminator([other, rgb]))


@pytest.mark.parametrize("gan_loss", ["bce", "lsgan"])
def test_both_networks_of_the_gan_learn_in_one_step(gan_loss):
    trainer = build.build(small("pix2pix", gan_loss=gan_loss), 32).trainer
    trainer.run_eagerly = True  # a graph of one step is not worth its making
    gray, real = tensors(VARIANTS["pix2pix"])
    networks = (trainer.generator, trainer.discriminator)
    before = [network.get_weights() for network in networks]
    losses = trainer.train_on_batch(gray, real, return_dict=True)
    expected = losses["adversarial_loss"] + 100 * losses["l1_loss"]
    assert losses["generator_loss"] == pytest.approx(expected, rel=1e-4)
    for network, old in zip(networks, before, strict=True):
        new = network.get_weights()
        assert any(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))


def test_the_generator_s_step_leaves_the_discriminator_alone():
    """Alternating updates: with a discriminator that does not learn, only the generator moves.

    Its batch statistics follow what it sees; its weights must not follow the generator's loss.
    """
    trainer = build.build(small("pix2pix", generator_learning_rate=0.1), 32).trainer
    trainer.run_eagerly = True
    trainer.discriminator_optimizer.learning_rate = 0.0
    before = [np.array(weight.value) for weight in trainer.discriminator.trainable_weights]
    trainer.train_on_batch(*tensors(VARIANTS["pix2pix"]))
    for old, new in zip(before, trainer.discriminator.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, new.value)


@pytest.mark.parametrize("head", HEADS)
def test_in_the_generator_only_phase_the_generator_learns_alone(head):
    trainer = build.build(small("pix2pix", head=head), 32).trainer
    trainer.run_eagerly = True  # for graphs see `test_training`
    gray, real = tensors(VARIANTS["pix2pix"])

    def moved_by_a_step():
        networks = (trainer.generator, trainer.discriminator)
        before = [network.get_weights() for network in networks]
        losses = trainer.train_on_batch(gray, real, return_dict=True)
        pairs = zip(networks, before, strict=True)
        return losses, [
            any(not np.array_equal(a, b) for a, b in zip(old, network.get_weights(), strict=True))
            for network, old in pairs
        ]

    trainer.train_generator_only(True)
    losses, moved = moved_by_a_step()
    assert moved == [True, False]
    assert losses["discriminator_loss"] == losses["adversarial_loss"] == 0
    if head == "histogram":
        assert losses["generator_loss"] == pytest.approx(np.log(13**2))  # all colors alike
    else:
        assert losses["generator_loss"] == losses["l1_loss"]
    trainer.train_generator_only(False)
    losses, moved = moved_by_a_step()
    assert moved == [True, True]
    assert losses["discriminator_loss"] > 0 and losses["adversarial_loss"] > 0


@pytest.mark.parametrize("variant", ["naive_deep", "pix2pix"])
def test_validation_and_serving_compute_the_same(variant, tmp_path):
    """Neither dropout nor statistics of the batch: not in validation, scoring or the served file.

    The served file colors each picture alone; the others see them together, after some steps of
    training with dropout.
    """
    config = small(variant, dropout=0.5)
    trainer, colorizer, _ = build.build(config, 32)
    gray, real = color.gray_input(RGB, config.gray_channels), color.to_signed(RGB.astype("f4"))
    for _ in range(10):  # from plain gray
        trainer.train_on_batch(gray, real)
    export_onnx(colorizer, tmp_path / "generator.onnx", gray)
    served = OnnxColorizer(tmp_path / "generator.onnx", batch_size=1)(gray)
    assert np.ptp(served, axis=-1).max() > 0.1  # there is color to differ in
    np.testing.assert_allclose(callbacks.as_function(colorizer)(gray), served, atol=0.005)
    losses = trainer.test_on_batch(gray, real, return_dict=True)
    l1 = np.abs(color.to_signed(served) - real).mean()
    assert losses[{"naive": "loss", "pix2pix": "l1_loss"}[config.family]] == pytest.approx(l1, 1e-3)


def test_a_depth_that_does_not_divide_the_picture_is_refused():
    with pytest.raises(ValueError, match="depth=6"):
        build.build(small("pix2pix", depth=6), 32)
