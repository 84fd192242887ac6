"""Color queries: a place may take a color from what the rest of the picture shows.

A decoder of convolutions sees a neighborhood. Learned queries look at the whole picture instead,
by attention, and each place is compared with all of them: the decoder of colors of DDColor (Kang et
al. 2023), made small for few pictures.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

WIDTH, HEADS, ROUNDS = 96, 4, 2
DROPOUT = 0.1


def color_maps(features: Any, seen: Sequence[Any], count: int) -> Any:
    """Return how well each of `count` queries fits each place, (N, h, w, count).

    The places are those of `features`, (N, h, w, F). The queries look at each of `seen`, features
    of the whole picture, (N, any, any, any), in `ROUNDS` rounds.
    """
    # Of stock layers only: weights that are the same for every picture are those of a number one.
    one = ops.ones_like(layers.GlobalAveragePooling2D()(features)[:, :1])
    alike = keras.initializers.RandomNormal(stddev=1.0)
    queries = layers.Dense(count * WIDTH, use_bias=False, kernel_initializer=alike)(one)
    queries = layers.Reshape((count, WIDTH))(queries)
    tokens = [layers.LayerNormalization()(_as_tokens(each)) for each in seen]
    for _ in range(ROUNDS):
        for each in tokens:
            queries = _look(queries, each)
    fits = ops.matmul(_as_tokens(features), _transposed(layers.LayerNormalization()(queries)))
    return layers.Reshape((*features.shape[1:3], count))(fits * WIDTH**-0.5)


def _as_tokens(features: Any) -> Any:
    return layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 1)(features))


def _transposed(queries: Any) -> Any:
    return ops.transpose(queries, (0, 2, 1))


def _look(queries: Any, tokens: Any) -> Any:
    """Let queries attend to the picture, then to each other, then think (Vaswani et al. 2017)."""
    queries = queries + _attend(layers.LayerNormalization()(queries), tokens)
    normal = layers.LayerNormalization()(queries)
    queries = queries + _attend(normal, normal)
    x = layers.Dense(2 * WIDTH, activation="relu")(layers.LayerNormalization()(queries))
    return queries + layers.Dropout(DROPOUT)(layers.Dense(WIDTH)(x))


def _attend(queries: Any, tokens: Any) -> Any:
    return layers.MultiHeadAttention(HEADS, WIDTH // HEADS, dropout=DROPOUT)(queries, tokens)
