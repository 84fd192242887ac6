"""In which precision layers compute; their weights, ranges, luma and losses stay float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Let layers created inside compute in `precision`; also a decorator.

    Args:
        precision: `float32`, or `mixed_bfloat16`: activations in bfloat16, weights in float32.
    """
    outer = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(outer)
