"""In which precision layers compute; their weights, ranges, luma and losses stay float32."""

from contextlib import contextmanager

import keras

PLAIN = {"dtype": "float32", "synchronized": False}  # settings of layers


@contextmanager
def computing_in(precision):
    """Let the layers that are created inside compute in `precision`; a decorator as well.

    Args:
        precision: `float32`, or `mixed_bfloat16`: activations in bfloat16, weights in float32.
    """
    outer = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(outer)


def plain_copy(network):
    """Return a copy, with weights of its own, that computes in float32 and on one device."""

    def plain(layer):
        settings = layer.get_config()
        changes = {name: value for name, value in PLAIN.items() if name in settings}
        return type(layer).from_config(settings | changes)

    copy = keras.models.clone_model(network, clone_function=plain)
    copy.set_weights(network.get_weights())
    return copy
