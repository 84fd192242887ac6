import numpy as np

from colorization import figures

RNG = np.random.default_rng(0)
BATCH = RNG.integers(0, 256, (3, 16, 16, 3), "uint8")


def test_square_sheets_hold_every_picture_in_its_place():
    sheets = figures.sheets(BATCH, 255 - BATCH)
    assert list(sheets) == ["1-2", "3-3"]
    step = 16 + figures.GAP
    for sheet in sheets.values():
        assert sheet.dtype == np.uint8 and sheet.shape == (step + 16, step + 16, 3)
    np.testing.assert_array_equal(sheets["1-2"][:16, :16], BATCH[0])
    np.testing.assert_array_equal(sheets["1-2"][:16, step:], 255 - BATCH[0])
    np.testing.assert_array_equal(sheets["1-2"][step:, :16], BATCH[1])
    np.testing.assert_array_equal(sheets["3-3"][:16, step:], 255 - BATCH[2])
    assert (sheets["3-3"][step:] == 255).all()  # there is no fourth


def test_loss_curves_show_every_loss_where_there_is_one_the_phases_and_the_kept_epoch():
    epochs = [
        {"loss/l1": 3.0, "loss/l1_val": 3.5, "val/psnr": 20.0},
        {"loss/l1": 2.0, "loss/l1_val": 2.5, "loss/discriminator": 0.6},
    ]
    begins = {"generator-only": 0, "adversarial": 1, "of a training that was cut short": 2}
    figure = figures.loss_curves(epochs, 1, begins)
    assert [axes.get_title() for axes in figure.axes] == ["discriminator", "l1"]
    discriminator = figure.axes[0].lines[0]
    np.testing.assert_array_equal(discriminator.get_ydata(), [np.nan, 0.6])
    training, validation, kept, phase = figure.axes[1].lines
    np.testing.assert_array_equal(training.get_ydata(), [3.0, 2.0])
    np.testing.assert_array_equal(validation.get_ydata(), [3.5, 2.5])
    assert kept.get_xdata()[0] == 2  # epochs count from 1
    assert phase.get_xdata()[0] == 1.5
    assert [text.get_text().strip() for text in figure.axes[1].texts] == ["adversarial"]


def test_a_sheet_has_a_row_a_picture_and_a_column_a_kind():
    figure = figures.sheet(BATCH, {}, ["a", "b", "c"], "title")
    assert len(figure.axes) == 6
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), BATCH[1])
    assert [axes.texts[0].get_text() for axes in figure.axes[1::2]] == ["a", "b", "c"]
