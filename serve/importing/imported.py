"""Imported weights: what their run logs in place of a training's config, and its log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from colorization.config import NaiveConfig, Pix2PixConfig

if TYPE_CHECKING:
    import keras

    from colorization.data.prepare import Splits

logger = logging.getLogger(__name__)

GRAY_CHANNELS = {each.family: each.gray_channels for each in (NaiveConfig, Pix2PixConfig)}
UNKNOWN_HOLDOUT = "unknown: the imported weights may have been trained on them"


@dataclass(frozen=True)
class Imported:
    """Describes imported weights in the place of a training's config.

    The ranges are those of `value_range.ValueRange`, the size is the side of its pictures, and the
    source is shown without secrets.
    """

    variant: str
    family: str
    source: str
    sha256: str
    size: int
    input_range: str
    output_range: str

    @property
    def label(self) -> str:
        """The name in tables and figures."""
        return self.variant

    @property
    def gray_channels(self) -> int:
        """Channels of the network's input."""
        return GRAY_CHANNELS[self.family]

    @property
    def origin(self) -> str:
        """The note of the run says this about the weights."""
        return (
            "with weights that may have been trained on these very pictures, imported from "
            f"`{self.source}` (SHA-256 `{self.sha256}`; {self.input_range} in, "
            f"{self.output_range} out)"
        )


def log(
    config: Imported, colorizer: keras.Model, splits: Splits, data: str, luma_error: float
) -> None:
    """Log an imported network like a trained one, and offer it to the registry.

    Args:
        config: describes the weights.
        colorizer: network of the contract, see `value_range.as_colorizer`.
        splits: prepared pictures; the network is tested on `splits.test`.
        data: name of their source, see `sources.fetch`.
        luma_error: of the probe, in levels of 255.
    """
    import mlflow

    from colorization import experiment, tracking
    from colorization.registry import promotion

    logger.info(
        "%s: %s in, %s out; its luma is off by %.1f levels of 255 in these ranges",
        *(config.variant, config.input_range, config.output_range, luma_error),
    )
    with tracking.open_run(config.label) as opened:
        tracking.log_config(config, data=data, size=splits.test.images.shape[1])
        tracking.log_data(splits, used=["test"])
        mlflow.set_tag("test_pictures_unseen", UNKNOWN_HOLDOUT)
        mlflow.log_metric("probe_luma_error", luma_error)
        model = experiment.log_colorizer(config, colorizer, splits, config.origin)
    candidate = experiment.log_outcome(config.label, opened, model)
    promotion.finish(candidate, register=True)
