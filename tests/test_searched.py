"""`searched=False` leaves a variant out of sweeps, unless a trial can draw the same network."""

import dataclasses

from colorization.config import VARIANTS
from sweeps.space import Spec


def test_a_variant_that_is_not_searched_does_not_stop_the_sweeps_of_its_family(monkeypatch):
    other = dataclasses.replace(VARIANTS["naive_deep"], variant="other", ema_momentum=0.9)
    monkeypatch.setitem(VARIANTS, "other", dataclasses.replace(other, searched=False))
    spec = Spec("naive", "delta_e", {}, epochs=1, seed=0)
    drawn = {name: spec.params_of(config)["variant"] for name, config in spec.presets().items()}
    assert "other" not in drawn and drawn["naive_basic"] == "naive_dropout"
    pinned = Spec("naive", "delta_e", {"variant": "other"}, epochs=1, seed=0)
    assert list(pinned.presets()) == ["other"]
