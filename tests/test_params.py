import shlex
from dataclasses import asdict

from mlflow.entities import Param, Run, RunData, RunInfo, RunTag

from colorization.config import VARIANTS, changed
from colorization.registry import lookup
from colorization.registry.candidate import params_of


def test_settings_are_read_without_the_quotes_with_which_mlflow_run_logs_them(tmp_path):
    file = tmp_path / "Jim's weights of 'birds'.h5"
    file.touch()
    config = changed(VARIANTS["naive_efficientnet"], {"encoder_weights": str(file)})
    params = [Param(name, shlex.quote(str(value))) for name, value in asdict(config).items()]
    data = RunData(params=params, tags=[RunTag("variant", config.variant)])
    assert lookup.settings_of(Run(RunInfo("", "", "", "FAILED", 0, None, "active"), data)) == config


def test_what_only_looks_quoted_is_left_as_it_is():
    for text in ("'", "'it's'"):
        data = RunData(params=[Param("start_from", text)])
        run = Run(RunInfo("", "", "", "FAILED", 0, None, "active"), data)
        assert params_of(run) == {"start_from": text}
