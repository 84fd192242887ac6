import numpy as np
import pytest
from PIL import Image

from colorization.data.prepare import prepare
from colorization.data.sources import fetch


def test_pictures_that_the_disk_cannot_hold_are_refused_before_any_is_written(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("COLORIZATION_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        levels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), "uint8")
        Image.fromarray(levels).save(tmp_path / "photos" / f"{seed}.png")
    with pytest.raises(OSError, match="No room to prepare .* 1800000000000000 bytes free: make"):
        prepare(fetch(str(tmp_path / "photos")), 10**7)
    assert not list((tmp_path / "cache").rglob("*.npy"))
