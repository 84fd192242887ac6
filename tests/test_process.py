"""What is logged, by a real process that starts as every entry point does."""

import os
import subprocess
import sys

from tests.conftest import ROOT

EVIL = "a\nerror: forged\r\x1b]0;title\x07\x9b2J\u202egpj\udcff"
ESCAPED = r"a\nerror: forged\r\x1b]0;title\x07\x9b2J\u202egpj\xff"

LOG = """
import logging
from colorization import process
process.start()
evil = {evil!a}
logging.getLogger("colorization.data").info("left out %s", evil)
logging.getLogger("another").warning(evil)
logging.getLogger("serve").info("a garden: häher €")
try:
    raise ValueError(evil)
except ValueError:
    logging.getLogger("sweeps").exception("broken: %s", evil)
logging.getLogger("serve").info("here", stack_info=True)
"""


def test_a_message_stays_one_line_and_a_traceback_keeps_its_own():
    done = subprocess.run(
        [sys.executable, "-c", LOG.format(evil=EVIL)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        stderr=subprocess.PIPE,
        check=True,
    )
    lines = done.stderr.decode().split("\n")
    assert lines[:4] == [f"left out {ESCAPED}", ESCAPED, "a garden: häher €", f"broken: {ESCAPED}"]
    assert lines[4] == "  Traceback (most recent call last):"
    raised = lines.index("here")
    assert lines[raised - 2 : raised] == ["  ValueError: a", "  " + ESCAPED.split(r"\n")[1]]
    assert lines[-1] == "" and all(line.startswith("  ") for line in lines[raised + 1 : -1])
