"""Serve the web page: `python -m serve.page --port 7860`.

`mlflow run . -e app` calls it.
"""

import argparse
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from colorization import process
from colorization.errors import Failure, InputError
from colorization.paths import user_path
from serve.page import LOOPBACK

logger = logging.getLogger("serve.page")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = process.Parser(prog="python -m serve.page", description=__doc__)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address of this machine to listen on, such as 0.0.0.0, for all; by default, only "
        "this machine reaches the page",
    )
    parser.add_argument(
        "--root_path",
        default="",
        help="where the page lies on the website of a proxy that removes it: /birds",
    )
    parser.add_argument(
        "--password_file",
        default="",
        help="a line name:password for each who may see the page; only the owner may read the file",
    )
    parser.add_argument(
        "--public",
        choices=("yes", "no"),
        default="no",
        help="yes: whoever reaches the page may use it, by any name of it",
    )
    arguments = parser.parse_args(argv)
    if not 0 < arguments.port < 65536:
        parser.error(f"Expected a port from 1 to 65535. Received: port={arguments.port}")
    if not re.fullmatch(r"(/[\w.~-]+)*/?", arguments.root_path, re.ASCII):
        parser.error(f"Expected a path such as /birds. Received: root_path={arguments.root_path!r}")
    if not (arguments.password_file or arguments.public == "yes" or arguments.host in LOOPBACK):
        parser.error(
            f"Only {' and '.join(LOOPBACK)} need no password. Expected password_file=FILE, of "
            "lines name:password, or public=yes, for a page without a password. Behind a proxy on "
            f"this machine, leave host out. Received: host={arguments.host!r}"
        )
    return arguments


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address of this machine.

    Raises:
        InputError: the address is another's, or the port is in use, or not ours to take.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            "Expected an address of this machine and a free port. "
            f"Received: host={host!r}, port={port} ({error.strerror})"
        ) from error
    # asyncio does so only for sockets that name their protocol. Without, an answer's body waits for
    # the browser's delayed acknowledgment of its head: 40 ms on a connection that is kept.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


@process.entry_point(parse)
def main(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    host, port = arguments.host, arguments.port
    listening = listen(host, port)
    # These import MLflow and Gradio, for which no error should wait.
    import uvicorn
    from mlflow.exceptions import MlflowException

    from colorization import launched, runs
    from colorization.registry import shipped
    from serve.page.app import Page, mount
    from serve.page.champions import FAMILIES
    from serve.page.guard import read_users

    file = arguments.password_file
    users = read_users(user_path(file)) if file else []
    # By default MLflow retries for minutes when the registry is down: visitors do not wait.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        shipped.provide(*FAMILIES)
    except (Failure, MlflowException) as error:  # the page says of each model why it is missing
        process.refuse(error)
    with runs.open_launched("page") as tag, listening, tempfile.TemporaryDirectory() as folder:
        with suppress(KeyboardInterrupt, SystemExit):  # the usual end of a page
            page = Page(Path(folder).resolve())
            app = mount(page, arguments.root_path.rstrip("/"), users, arguments.public == "yes")
            shown = f"[{host}]" if ":" in host else host
            logger.info("The page is at http://%s:%d", shown, port)
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
            uvicorn.Server(config).run([listening])
        tag(launched.ENDED_AS, launched.ended_as("FINISHED"))


if __name__ == "__main__":
    sys.exit(main())
