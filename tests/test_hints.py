"""Where a parameter belongs that an entry point does not take."""

import pytest

from colorization import __main__ as training
from sweeps import __main__ as sweeps


@pytest.mark.parametrize(
    ("parse", "command", "hint"),
    [
        (training.parse, "compare --filters 8", "`-e naive_basic -P filters=...`"),
        (training.parse, "compare --l1_weight 8", "`-e pix2pix -P l1_weight=...`"),
        (sweeps.parse, "--size 64", "`fix=size=...`"),
    ],
)
def test_an_error_says_where_a_parameter_belongs(parse, command, hint, capsys):
    with pytest.raises(SystemExit):
        parse(command.split())
    assert f"Did you mean {hint}?" in capsys.readouterr().err
