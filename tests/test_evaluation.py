from types import SimpleNamespace

import numpy as np
import pytest

from colorization import evaluation, pixels

RNG = np.random.default_rng(0)
REAL = RNG.integers(30, 220, (4, 16, 16, 3), "uint8")
SPLIT = SimpleNamespace(
    name="test",
    images=REAL,
    species=("Robin", "Wren", "Robin", "Wren"),
    paths=("a.png", "b.png", "c.png", "d.png"),
)


def oracle(_):
    return REAL.astype("float32") + 1


def test_a_colorizer_is_scored_next_to_both_baselines():
    chroma = evaluation.mean_chroma(REAL)
    tested = evaluation.evaluate(oracle, SPLIT, 1, chroma)
    assert tested.metrics["test_psnr"] == pytest.approx(48.13, abs=0.01)  # an error of one level
    assert tested.metrics["test_colorfulness"] == pytest.approx(1, abs=0.01)
    assert tested.metrics["test_colorfulness_gray"] == pytest.approx(0, abs=1e-6)
    for name in ("psnr", "ssim", "delta_e", "colorfulness"):
        assert {f"test_{name}", f"test_{name}_gray", f"test_{name}_mean_chroma"} <= set(
            tested.metrics
        )
    assert tested.metrics["test_psnr"] > tested.metrics["test_psnr_mean_chroma"]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gray_row_is_what_a_colorizer_that_adds_no_color_scores(channels):
    def colorless(grays):
        assert grays.shape == (4, 16, 16, channels)
        return np.repeat(grays[..., :1], 3, axis=-1)

    metrics = evaluation.evaluate(colorless, SPLIT, channels, np.zeros(2)).metrics
    for name in ("psnr", "ssim", "delta_e"):
        assert metrics[f"test_{name}"] == pytest.approx(metrics[f"test_{name}_gray"])
        # No chroma at all is the mean chroma of a gray training set.
        assert metrics[f"test_{name}_mean_chroma"] == pytest.approx(metrics[f"test_{name}_gray"])


def test_the_mean_chroma_of_a_flat_color_gives_the_color_back():
    flat = np.full((2, 8, 8, 3), (180, 90, 60), "uint8")
    painted = evaluation.baselines(pixels.luma(flat), evaluation.mean_chroma(flat))["mean_chroma"]
    np.testing.assert_allclose(painted.astype(int), flat, atol=1)


def test_species_are_averaged_apart():
    tested = evaluation.evaluate(oracle, SPLIT, 1, np.zeros(2))
    table = tested.per_species().set_index("species")
    assert list(table.index) == ["Robin", "Wren"]
    assert list(table["pictures"]) == [2, 2]
    robins = tested.pictures[tested.pictures["species"] == "Robin"]
    assert table.loc["Robin", "delta_e"] == pytest.approx(robins["delta_e"].mean())


def test_a_criterion_knows_its_direction():
    lower = evaluation.Criterion("delta_e", higher_is_better=False)
    higher = evaluation.Criterion("psnr", higher_is_better=True)
    assert lower.better(3, 4) and not lower.better(4, 3)
    assert higher.better(4, 3) and not higher.better(3, 4)
    assert set(evaluation.CRITERIA) == {"naive", "pix2pix"}
