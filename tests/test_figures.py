import numpy as np

from colorization import figures, report

RNG = np.random.default_rng(0)
BATCH = RNG.integers(0, 256, (3, 16, 16, 3), "uint8")


def test_a_strip_holds_every_picture_in_its_place():
    strip = figures.strip(BATCH, 255 - BATCH, per_row=2)
    assert strip.dtype == np.uint8
    step = 16 + figures.GAP
    np.testing.assert_array_equal(strip[:16, :16], BATCH[0])
    np.testing.assert_array_equal(strip[:16, step : step + 16], 255 - BATCH[0])
    second = 2 * step + 2 * figures.GAP
    np.testing.assert_array_equal(strip[:16, second : second + 16], BATCH[1])
    np.testing.assert_array_equal(strip[step : step + 16, :16], BATCH[2])
    assert (strip[step:, second:] == 255).all()  # an odd one leaves a white place


def test_loss_curves_show_every_loss_and_the_kept_epoch():
    history = {
        "generator_loss": [3.0, 2.0],
        "discriminator_loss": [0.6, 0.7],
        "val_generator_loss": [3.5, 2.5],
        "val_discriminator_loss": [0.5, 0.6],
        "val_psnr": [20.0, 21.0],
    }
    figure = figures.loss_curves(history, best_epoch=1)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["generator loss", "discriminator loss"]
    training, validation, kept = figure.axes[0].lines
    np.testing.assert_array_equal(training.get_ydata(), [3.0, 2.0])
    np.testing.assert_array_equal(validation.get_ydata(), [3.5, 2.5])
    assert kept.get_xdata()[0] == 2  # epochs count from 1


def test_a_sheet_has_a_row_a_picture_and_a_column_a_kind():
    figure = report.sheet(BATCH, {}, ["a", "b", "c"], "title")
    assert len(figure.axes) == 6
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), BATCH[1])
    assert [axes.texts[0].get_text() for axes in figure.axes[1::2]] == ["a", "b", "c"]
