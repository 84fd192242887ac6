"""Resize, then convolve: transposed convolutions would leave checkerboards (Odena et al. 2016)."""

from typing import Any

from keras import layers, ops

KERNEL = 3


def resize(x: Any, size: int) -> Any:
    """Resize (N, H, W, C) to (N, size, size, C), bilinearly.

    An operation, since `keras.layers.Resizing` sets `training` to True for the layers after it,
    normalizations too, where the network is called without that argument (Keras 3.15).
    """
    return ops.image.resize(x, (size, size), interpolation="bilinear")


def resize_and_convolve(x: Any, filters: int, fused: bool, **options: Any) -> Any:
    """Double width and height by nearest neighbors, and convolve 3x3, to (N, 2 H, 2 W, filters).

    If `fused`, one layer does both, and trains twice as fast; otherwise two of Keras's own do. The
    weights are the same, and so is the result up to rounding. The options are those of `Conv2D`.
    """
    if fused:
        return ResizedConv2D(filters, **options)(x)
    x = layers.UpSampling2D(2, interpolation="nearest")(x)
    return layers.Conv2D(filters, KERNEL, padding="same", **options)(x)


class ResizedConv2D(layers.Conv2D):
    """Both steps as a transposed convolution with stride 2, whose kernel is made of the 3x3 one.

    Repeating pixels is a transposed convolution with 2x2 ones. Followed by one with 3x3 it equals
    a single one with 4x4. An input pixel costs 16 multiplications per output channel instead of 36,
    and no enlarged copy of the input is written.
    """

    def __init__(self, filters: int, **options: Any) -> None:
        super().__init__(filters, KERNEL, padding="same", **options)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape out: twice as wide and high, `filters` channels."""
        count, height, width, _ = input_shape
        return (count, 2 * height, 2 * width, self.filters)

    def call(self, inputs: Any) -> Any:
        """Return (N, 2 H, 2 W, filters) for (N, H, W, C)."""
        kernel = ops.transpose(self.kernel[::-1, ::-1], (0, 1, 3, 2))
        kernel = ops.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
        for axis in (0, 1):  # each tap meets two equal pixels
            kernel = kernel + ops.roll(kernel, 1, axis)
        x = ops.conv_transpose(inputs, kernel, strides=2, padding="same")
        return self.activation(x + self.bias if self.use_bias else x)
