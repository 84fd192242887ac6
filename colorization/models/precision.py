"""In which precision layers compute; their weights, ranges, luma and losses stay float32."""

from contextlib import contextmanager

import keras


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
