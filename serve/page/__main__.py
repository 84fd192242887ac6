"""Serve the web page on loopback: `python -m serve.page --port 7860`.

`mlflow run . -e app` calls it.
"""

import argparse
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from colorization import process
from colorization.errors import Failure, InputError

logger = logging.getLogger("serve.page")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = process.Parser(prog="python -m serve.page", description=__doc__)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--host",
        default="",
        help="another name of the page beside localhost, such as that of a proxy in front of it",
    )
    arguments = parser.parse_args(argv)
    if not 0 < arguments.port < 65536:
        parser.error(f"Expected a port from 1 to 65535. Received: port={arguments.port}")
    return arguments


@process.entry_point(parse)
def main(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    port = arguments.port
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise InputError(
            f"Expected a free port. Received: port={port} ({error.strerror})"
        ) from error
    # These import MLflow and Gradio, for which no error should wait.
    import uvicorn
    from mlflow.exceptions import MlflowException

    from colorization import launched, runs
    from colorization.registry import pretrained
    from serve.page.app import Page, mount
    from serve.page.champions import FAMILIES
    from serve.page.guard import LOOPBACK

    # By default MLflow retries for minutes when the registry is down: visitors do not wait.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        pretrained.provide(*FAMILIES)
    except (Failure, MlflowException) as error:  # the page says of each model why it is missing
        process.refuse(error)
    with runs.open_launched("page") as tag, listening, tempfile.TemporaryDirectory() as folder:
        with suppress(KeyboardInterrupt, SystemExit):  # the usual end of a page
            hosts = [*LOOPBACK, *filter(None, [arguments.host])]
            app = mount(Page(Path(folder).resolve()), hosts)
            logger.info("The page is at http://127.0.0.1:%d", port)
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
            uvicorn.Server(config).run([listening])
        tag(launched.ENDED_AS, launched.ended_as("FINISHED"))


if __name__ == "__main__":
    sys.exit(main())
