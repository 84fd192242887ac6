"""What log, names of runs and registry say of what was forced, gave way, or is not there."""

import logging

import mlflow
import numpy as np
import pytest

from colorization import color, process
from colorization.errors import GateError
from colorization.registry import __main__ as registry
from colorization.registry import lookup, promotion
from tests import test_folder, test_launched
from tests.conftest import bird
from tests.networks import log_network, memory, with_chroma

launch, store, color_album = test_launched.launch, test_folder.store, test_folder.color


def described(version):
    return mlflow.MlflowClient().get_model_version(version.name, version.version).description


@pytest.mark.slow  # exports networks
def test_log_and_version_say_what_was_forced_and_which_champion_gave_way_why(
    small_splits, active_store, caplog
):
    images = small_splits.test.images
    sepia = np.array([-0.15, 0.3], "float32")  # one hue
    collapsed = log_network(with_chroma(lambda luma: luma * sepia, size=32), small_splits)
    pale, good = (
        log_network(memory(images, share * color.chroma(images)), small_splits)
        for share in (0.4, 1.0)
    )
    caplog.set_level(logging.INFO, "colorization")

    forced, _ = promotion.register(collapsed, force=True)
    lost = f"test delta_e {collapsed.score():.4f} against {collapsed.score('_shuffled'):.4f}"
    for text in (caplog.text, described(forced)):
        assert "forced, although the gate refused it: No better than shuffled chroma" in text
        assert lost in text

    caplog.clear()
    passed, _ = promotion.register(pale)
    assert f"champion of run {forced.run_id} gives way, since it has collapsed" in caplog.text
    assert "version 1 gives way to version 2" in caplog.text
    assert "forced" not in caplog.text + described(passed)

    caplog.clear()
    promotion.register(good)
    figures = f"test delta_e {good.score():.4f} against {pale.score():.4f}"
    assert f"{figures} of the champion of run {passed.run_id}" in caplog.text
    assert "version 2 gives way to version 3" in caplog.text

    caplog.clear()
    assert promotion.register(pale)[1] == "challenger"
    assert "gives way" not in caplog.text


def test_the_run_of_an_album_counts_as_the_terminal_does(launch, color_album, tmp_path):
    album = tmp_path / "old_album"
    album.mkdir()
    test_folder.scene().save(album / "gray.png")
    for number in (1, 2):
        bird("Blackbird", number).save(album / f"{number}.png")
    (album / "broken.png").write_bytes(b"")
    run_id = launch()
    status, said = color_album(album, tmp_path / "out")
    assert status == 1
    assert "1 of 4 colored, 2 in color already: copied, 1 left out" in said
    assert mlflow.get_run(run_id).info.run_name == "colorize old_album: 1 of 4"


def test_a_family_without_a_champion_is_told_so_and_which_command_makes_one(active_store):
    for model in ("naive", "models:/bird-colorizer-naive@champion"):
        with pytest.raises(GateError, match="mlflow run . -e pretrained") as refused:
            lookup.resolve(model)
        name = process.error_name(str(refused.value))
        assert name == "error: there is no champion of naive yet"


@pytest.mark.slow  # starts a process
def test_a_registration_of_what_is_not_there_is_named_an_error(launch):
    run_id = launch("register")
    assert registry.main(["--best", "foo"]) == 2
    assert mlflow.get_run(run_id).info.run_name == "error: unknown family"
