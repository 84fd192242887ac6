"""A Dask cluster that exists: reached within a bounded time, or a sentence says what is missing."""

import logging
import socket
from urllib.parse import urlsplit

import psutil
from distributed import Client
from distributed.comm import get_address_host, get_address_host_port

from colorization.address import shown
from colorization.errors import InputError

WAIT_SECONDS = 30  # for the scheduler, and for a worker
START_WORKERS = "Expected `python -m dask worker` started in the project's folder and environment"


def connect(address: str) -> Client:
    """Connect to a scheduler, or raise an InputError if nobody answers there."""
    for name in ("distributed", "distributed.client", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what is wrong is said here
    try:
        get_address_host_port(address)  # a client of what is no address takes a minute to fail
        return Client(address, timeout=WAIT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            "The cluster cannot be reached. Expected the address of a Dask scheduler, as "
            f"tcp://host:8786. Received: cluster={address!r}"
        ) from error


def is_here(address: str) -> bool:
    """Tell whether an address is one of this machine."""
    host = get_address_host(address)
    cards = psutil.net_if_addrs().values()
    own = {each.address for card in cards for each in card}
    return any(found[4][0] in own for found in socket.getaddrinfo(host, None))


def require_shared(name: str, address: str, server: str) -> None:
    """Raise an InputError if an address is that of a file, which other machines do not see."""
    if urlsplit(address).scheme in ("", "file", "sqlite"):
        raise InputError(
            "The workers of a cluster share what they find on a server, and do not see a file "
            f"of this machine. Expected {name}={server}. Received: {name}={shown(address)!r}"
        )


def require_workers(client: Client) -> None:
    """Wait for a worker of the cluster; raise an InputError after `WAIT_SECONDS`."""
    try:
        client.wait_for_workers(1, WAIT_SECONDS)
    except OSError as error:  # TimeoutError among them
        raise InputError(
            f"The cluster has no workers. {START_WORKERS}; the same command goes on from here. "
            f"Received: none within {WAIT_SECONDS} seconds"
        ) from error
