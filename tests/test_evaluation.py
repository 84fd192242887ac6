from types import SimpleNamespace

import numpy as np
import pytest

from colorization import color, evaluation

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


def test_a_colorizer_is_scored_next_to_the_baselines():
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
    painted = evaluation.baselines(flat, evaluation.mean_chroma(flat))["mean_chroma"]
    np.testing.assert_allclose(painted.astype(int), flat, atol=1)


def test_species_are_averaged_apart():
    tested = evaluation.evaluate(oracle, SPLIT, 1, np.zeros(2))
    table = tested.per_species().set_index("species")
    assert list(table.index) == ["Robin", "Wren"]
    assert list(table["pictures"]) == [2, 2]
    robins = tested.pictures[tested.pictures["species"] == "Robin"]
    assert table.loc["Robin", "delta_e"] == pytest.approx(robins["delta_e"].mean())


def test_each_family_s_criterion_prefers_what_the_family_is_for():
    """Half of the birds are red and half blue, and no gray tells which: dull is safe."""
    rng = np.random.default_rng(1)
    gray = rng.integers(90, 160, (40, 16, 16, 1)).astype("float32")
    red, blue = np.array([-30, 50]), np.array([50, -30])
    is_red = rng.random((40, 1, 1, 1)) < 0.5
    real = color.join(gray, np.where(is_red, red, blue))
    sepia = color.join(gray, (red + blue) / 2)
    guessed = rng.random((40, 1, 1, 1)) < 0.2  # right in the others
    lively = color.join(gray, np.where(is_red ^ guessed, red, blue))
    muddled = color.join(gray, np.where(rng.random((40, 1, 1, 1)) < 0.5, red, blue))
    tables = [evaluation.score_set(real, each) for each in (sepia, lively, muddled)]
    for means in tables:
        assert means["color_error"] == means["delta_e"] + means["chroma_distance"]
    naive, pix2pix = (evaluation.CRITERIA[family] for family in ("naive", "pix2pix"))
    sepia, lively, muddled = ([means[c.metric] for c in (naive, pix2pix)] for means in tables)
    assert pix2pix.better(lively[1], sepia[1]) and pix2pix.better(lively[1], muddled[1])
    assert naive.better(sepia[0], muddled[0])


def test_a_collapse_is_named():
    rng = np.random.default_rng(2)
    gray = rng.integers(90, 160, (8, 16, 16, 1)).astype("float32")
    real = color.join(gray, rng.normal(0, 25, (8, 16, 16, 2)) + (-5, 10))

    def collapse(predicted):
        means = evaluation.score_set(real, predicted)
        return evaluation.collapse(means, real)

    expected = {0.01: "gray", 0.3: "sepia", 1.0: "one hue"}
    for strength, name in expected.items():
        hue = strength * np.abs(rng.normal(0, 35, (8, 16, 16, 1))) * np.array([-0.5, 1])
        assert collapse(color.join(gray, hue)) == name
    assert collapse(color.join(gray, color.chroma(real) * 0.3)) == collapse(real) == ""


def test_a_criterion_knows_its_direction():
    lower = evaluation.Criterion("delta_e", higher_is_better=False)
    higher = evaluation.Criterion("psnr", higher_is_better=True)
    assert lower.better(3, 4) and not lower.better(4, 3)
    assert higher.better(4, 3) and not higher.better(3, 4)
    assert set(evaluation.CRITERIA) == {"naive", "pix2pix"}
