import os
import socket
import sys
import threading

import pytest

from colorization import runs
from tests import warm
from tests.conftest import ROOT


@pytest.mark.slow
def test_a_store_that_does_not_answer_holds_up_no_command_with_another_store(active_store):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(120)
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        waiting = warm.Popen(
            [sys.executable, "-c", "from colorization import runs; runs.end_stale_runs()"],
            env=os.environ | {"MLFLOW_TRACKING_URI": address, "PYTHONPATH": str(ROOT)},
        )
        try:
            mute.accept()[0]  # it holds its store by now
            other = threading.Thread(target=runs.end_stale_runs, daemon=True)
            other.start()
            other.join(60)
            assert waiting.poll() is None
            assert not other.is_alive()
        finally:
            waiting.kill()
            waiting.wait(60)
