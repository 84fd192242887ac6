import numpy as np

from colorization import color
from colorization.data import pipeline


def collect(dataset):
    grays, reals = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(grays), np.concatenate(reals)


def ramp(count=12, size=32):
    """Pictures whose red grows to the right, green downwards; blue is the picture's number."""
    red, green = np.meshgrid(np.linspace(20, 200, size), np.linspace(30, 220, size))
    images = [np.stack([red, green, np.full_like(red, 20 * n)], axis=-1) for n in range(count)]
    return np.stack(images).astype("uint8")


def test_gray_and_color_move_together_under_augmentation():
    gray, real = collect(pipeline.training_pairs(ramp(), 3, batch_size=4, seed=0, crop=0.8))
    levels = color.to_levels(real)
    assert gray.shape == real.shape == (12, 32, 32, 3)
    np.testing.assert_allclose(gray[..., 0], levels @ color.LUMA, atol=0.51)  # whole levels
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])


def test_training_pictures_are_flipped_and_jittered_but_never_turned_upside_down():
    images = np.repeat(ramp(1), 64, axis=0)
    _, real = collect(pipeline.training_pairs(images, 1, batch_size=8, seed=0, crop=0.8))
    levels = color.to_levels(real)
    rightwards = levels[:, :, -1, 0] > levels[:, :, 0, 0]
    assert 0.2 < rightwards.mean() < 0.8
    assert (levels[:, -1, :, 1] > levels[:, 0, :, 1]).all()
    # Of the ramp's height of 190 levels crops leave 80 to 100 %, here or there.
    tops, bottoms = levels[:, 0, 0, 1], levels[:, -1, 0, 1]
    heights = (bottoms - tops) / 190
    assert 0.79 < heights.min() < 0.83
    assert 0.97 < heights.max() < 1.01
    assert np.ptp((tops + bottoms) / 2) > 10


def test_every_epoch_shows_each_picture_once_in_another_order():
    pairs = pipeline.training_pairs(ramp(), 1, batch_size=4, seed=0, crop=0.8)
    numbers = [np.round(color.to_levels(collect(pairs)[1])[:, 16, 16, 2] / 20) for _ in range(2)]
    for epoch in numbers:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(12))
    assert not np.array_equal(*numbers)


def test_the_same_seed_gives_the_same_epochs_and_another_seed_others():
    first, again, other = (
        pipeline.training_pairs(ramp(), 1, batch_size=4, seed=seed, crop=0.8) for seed in (3, 3, 4)
    )
    for _ in range(2):  # both epochs
        np.testing.assert_array_equal(collect(first)[1], epoch := collect(again)[1])
        assert not np.array_equal(epoch, collect(other)[1])


def test_validation_pictures_stay_as_they_are_and_in_order():
    images = ramp(5)
    gray, real = collect(pipeline.validation_pairs(images, 1, batch_size=2))
    np.testing.assert_allclose(color.to_levels(real), images, atol=1e-3)
    np.testing.assert_array_equal(gray, color.luma(images))


def test_fewer_pictures_than_a_batch_still_make_a_step():
    gray, _ = collect(pipeline.training_pairs(ramp(3), 1, batch_size=8, seed=0, crop=0.8))
    assert len(gray) == 3
