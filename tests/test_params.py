import shlex
from dataclasses import asdict

from mlflow.entities import Param, Run, RunData, RunInfo, RunTag

from colorization.config import VARIANTS, changed
from colorization.registry import lookup


def test_settings_are_read_without_the_quotes_with_which_mlflow_run_logs_them(tmp_path):
    file = tmp_path / "Jim's weights of 'birds'.h5"
    file.touch()
    config = changed(VARIANTS["naive_efficientnet"], {"encoder_weights": str(file)})
    params = [Param(name, shlex.quote(str(value))) for name, value in asdict(config).items()]
    data = RunData(params=params, tags=[RunTag("variant", config.variant)])
    assert lookup.settings_of(Run(RunInfo("", "", "", "FAILED", 0, None, "active"), data)) == config
