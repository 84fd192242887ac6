"""Resize, then convolve: what the decoders grow by, since transposed ones leave checkerboards."""

from keras import layers, ops

KERNEL = 3


def resize(x, size):
    """Resize (N, H, W, C) to (N, size, size, C), bilinearly.

    By an operation: Keras's layer for it tells all behind it, normalizations too, that this is
    training, wherever the network is called without saying so (Keras 3.15).
    """
    return ops.image.resize(x, (size, size), interpolation="bilinear")


def resize_and_convolve(x, filters, fused, **options):
    """Double width and height by nearest neighbors, and convolve 3x3.

    Args:
        x: (N, H, W, C).
        filters: channels out.
        fused: by one layer that trains twice as fast, or by two of Keras's own. Both have the same
            weights, and give the same but for rounding.
        **options: of `keras.layers.Conv2D`, but for its size, strides and padding.

    Returns:
        (N, 2 H, 2 W, filters).
    """
    if fused:
        return ResizedConv2D(filters, **options)(x)
    x = layers.UpSampling2D(2, interpolation="nearest")(x)
    return layers.Conv2D(filters, KERNEL, padding="same", **options)(x)


class ResizedConv2D(layers.Conv2D):
    """Both in one: a transposed convolution with stride 2, whose kernel is made of the 3x3 one.

    Repeating pixels is a transposed convolution by ones (2x2); that and the one by 3x3 after it
    are one by 4x4. So a pixel in costs 16 multiplications for each channel out instead of 36, and
    no large copy of the input is written.
    """

    def __init__(self, filters, **options):
        super().__init__(filters, KERNEL, padding="same", **options)

    def compute_output_shape(self, input_shape):
        """Return the shape out: twice as wide and high, `filters` channels."""
        count, height, width, _ = input_shape
        return (count, 2 * height, 2 * width, self.filters)

    def call(self, inputs):
        """Return (N, 2 H, 2 W, filters) for (N, H, W, C)."""
        kernel = ops.transpose(self.kernel[::-1, ::-1], (0, 1, 3, 2))  # mirrored, as is the way
        kernel = ops.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
        for axis in (0, 1):  # each tap meets two pixels of one value
            kernel = kernel + ops.roll(kernel, 1, axis)
        x = ops.conv_transpose(inputs, kernel, strides=2, padding="same")
        return self.activation(x + self.bias if self.use_bias else x)
