"""Where a study is kept, SQLite or PostgreSQL, and the locks that its processes share."""

import contextlib
import logging
import os
import re
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from colorization.address import redacted, shown

DEFAULT = "sqlite:///sweeps.db"
HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 20  # of silence; then a trial is stale
LOCK_POLL_SECONDS = 0.2
SQLITE = {"timeout": 60}  # seconds that a process waits for others: one may write at a time
POSTGRESQL = {"connect_timeout": 10}  # seconds after which a server counts as away
KEEPALIVES = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
EXPECTED = "Expected sqlite:///file.db or postgresql://user@host/database"

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Silence Optuna's warnings about experimental features and about `Study.optimize`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna's version is pinned
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        yield


class Storage:
    """An Optuna storage that a process may leave at any moment without harm to the others.

    Args:
        url: `sqlite:///file.db` or `postgresql://user@host/database`.
        on_stale_trial: called with a study and a trial that failed after `GRACE_SECONDS` without
            a heartbeat of its process.

    Attributes:
        shown: the URL as `address.shown` shows it.
        optuna: `optuna.storages.RDBStorage`.

    Raises:
        ValueError: the URL is of another kind, or nobody answers there.
    """

    def __init__(
        self, url: str, on_stale_trial: Callable[[optuna.Study, FrozenTrial], None] | None
    ) -> None:
        self._url = _parse(url)
        self.shown = shown(url)
        options: dict[str, Any] = {"connect_args": SQLITE}
        if self._url.get_backend_name() == "postgresql":
            options = {"connect_args": POSTGRESQL, "pool_pre_ping": True}  # finds it restarted
        try:
            # Two at once cannot create the same tables.
            with self.lock("tables"), unwarned():
                self.optuna = _RDBStorage(
                    self._url.render_as_string(hide_password=False),
                    engine_kwargs=options,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=on_stale_trial,
                )
        except (StorageInternalError, SQLAlchemyError, ImportError, RuntimeError, OSError) as error:
            reason = redacted(getattr(error, "orig", None) or error, url).strip().splitlines()[0]
            raise ValueError(
                f"The storage does not answer. {EXPECTED}, of a running server. "
                f"Received: storage={self.shown!r}: {reason}"
            ) from error

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock that one process has at a time, on all machines that share the storage.

        A process that dies lets go of it.
        """
        key = zlib.crc32(name.encode())
        if self._url.get_backend_name() == "sqlite":
            with FileLock(f"{self._url.database}.{key:08x}.lock"):
                yield
            return
        # By keepalives the server notices a machine that lost power.
        options = POSTGRESQL | {"options": KEEPALIVES}
        engine = sqlalchemy.create_engine(
            self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options
        )
        taken = sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(key))
        try:
            with engine.connect() as connection:  # the lock is gone with it
                while not connection.scalar(taken):  # polled: a wait in the server hears no Ctrl-C
                    time.sleep(LOCK_POLL_SECONDS)
                yield
        except SQLAlchemyError as error:
            raise StorageInternalError(str(getattr(error, "orig", error))) from error


class _RDBStorage(optuna.storages.RDBStorage):
    """Optuna's storage; its heartbeat goes on after the server was away for a while."""

    def record_heartbeat(self, trial_id: int) -> None:
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


def _parse(text: str) -> sqlalchemy.URL:
    try:
        url = sqlalchemy.make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        # What cannot be read may still hold a password: only its scheme is shown.
        scheme = re.match(r"([\w+]+://)?", text)
        raise ValueError(
            f"The storage's URL cannot be read. {EXPECTED}. Received: {scheme and scheme[0]!r}..."
        ) from None
    if backend not in ("sqlite", "postgresql") or not url.database or url.database == ":memory:":
        raise ValueError(f"Unknown kind of storage. {EXPECTED}. Received: storage={shown(text)!r}")
    instead = "in PGPASSWORD or ~/.pgpass"
    if "password" in url.query:
        raise ValueError(
            f"The storage's query holds a password, which logs would show. Expected it {instead}. "
            f"Received: storage={shown(text)!r}"
        )
    if "MLFLOW_RUN_ID" in os.environ and (url.password or "sslpassword" in url.query):
        logger.warning("`mlflow run` has logged a password: next time, give it %s", instead)
    return url
