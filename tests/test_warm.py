"""A fork of the process that has imported everything is as good as a process of its own."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests import warm

pytestmark = pytest.mark.slow

SAY = """
import json, os, sys
ours = [name for name in sys.modules if name.split(".")[0] in ("colorization", "serve", "sweeps")]
facts = {"argv": sys.argv, "folder": os.getcwd(), "path": sys.path[:2], "ours": ours}
with open("/proc/self/cmdline") as file:
    facts["shown"] = file.read().rstrip("\\0").split("\\0")
print(json.dumps(facts | {"pid": os.getpid(), "environment": dict(os.environ)}))
print("and this", file=sys.stderr)
sys.exit(7)
"""


def test_it_has_the_words_folder_environment_streams_and_status_of_a_process(tmp_path):
    environment = {"PYTHONPATH": "/nowhere", "BIRD": "Robin"}
    done = warm.run([sys.executable, "-c", SAY, "--flag", 3], cwd=tmp_path, env=environment)
    said = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (7, "and this\n")
    assert said.pop("pid") != os.getpid()
    assert said == {
        "argv": ["-c", "--flag", "3"],
        "shown": [sys.executable, "-c", SAY, "--flag", "3"],
        "folder": str(tmp_path),
        "path": [str(tmp_path), "/nowhere"],
        "ours": [],
        "environment": environment,
    }


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_can_be_stopped(stop):
    code = "print('ready', flush=True); import time; time.sleep(600)"
    command = [sys.executable, "-c", code]
    with warm.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(stop)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == -stop
    assert ("KeyboardInterrupt" in output) == (stop == signal.SIGINT)
