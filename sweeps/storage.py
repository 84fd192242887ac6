"""Where a study is kept, SQLite or PostgreSQL, with heartbeats and locks of its processes.

How a dead worker is noticed: each process writes a heartbeat every `HEARTBEAT_SECONDS` while it
trains. Before another one takes its next trial, it marks every trial as failed whose process was
silent for `GRACE_SECONDS` (`sweeps/study.py:fail_stale_trials`), queues it again, at most
`MAX_CRASHES` times (`retry` there), and ends the trial's run as KILLED (`parent_run.update`).
"""

import contextlib
import functools
import logging
import os
import time
import zlib
from collections.abc import Iterator

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from colorization.address import redacted, shown
from colorization.paths import user_path
from sweeps.study import retry

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 20  # of silence; then a trial is stale
LOCK_POLL_SECONDS = 0.2
SQLITE = {"timeout": 60}  # seconds that a process waits for others: one may write at a time
POSTGRESQL = {"connect_timeout": 10}  # seconds after which a server counts as away
KEEPALIVES = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
EXPECTED = "Expected sqlite:///file.db or postgresql://user@host/database"

logger = logging.getLogger(__name__)


class Storage(optuna.storages.RDBStorage):
    """An Optuna storage that a process may leave at any moment without harm to the others.

    Its URL is `sqlite:///file.db` or `postgresql://user@host/database`; `shown` has no secrets.

    Raises:
        ValueError: the URL is of another kind, or nobody answers there.
    """

    def __init__(self, url: str) -> None:
        self._address = _parse(url)
        self._sqlite = self._address.get_backend_name() == "sqlite"
        self.shown = shown(str(self._address) if self._sqlite else url)
        try:
            with self.lock("tables"):  # two at once cannot create the same ones
                super().__init__(
                    self._address.render_as_string(hide_password=False),
                    engine_kwargs={
                        "connect_args": SQLITE if self._sqlite else POSTGRESQL,
                        "pool_pre_ping": True,  # notices that the server was restarted
                    },
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=functools.partial(retry, crashed=True),
                )
        except (StorageInternalError, SQLAlchemyError, ImportError, RuntimeError, OSError) as error:
            reason = redacted(getattr(error, "orig", None) or error, url).strip().splitlines()[0]
            raise ValueError(
                f"The storage does not answer. {EXPECTED}, of a running server. "
                f"Received: storage={self.shown!r}: {reason}"
            ) from error

    def record_heartbeat(self, trial_id: int) -> None:
        """Record that a trial's process lives, unless the server is away for a while."""
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock that one process has at a time, on all machines that share the storage.

        A process that dies lets go of it.
        """
        key = zlib.crc32(name.encode())
        if self._sqlite:
            with FileLock(f"{self._address.database}.{key:08x}.lock"):
                yield
            return
        # By keepalives the server notices a machine that lost power.
        options = POSTGRESQL | {"options": KEEPALIVES}
        engine = sqlalchemy.create_engine(
            self._address, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options
        )
        taken = sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(key))
        try:
            with engine.connect() as connection:  # the lock is gone with it
                while not connection.scalar(taken):  # polled: a wait in the server hears no Ctrl-C
                    time.sleep(LOCK_POLL_SECONDS)
                yield
        except SQLAlchemyError as error:
            raise StorageInternalError(str(getattr(error, "orig", error))) from error


def _parse(text: str) -> sqlalchemy.URL:
    """Return the address that a text states; that of a SQLite file has an absolute path."""
    url = None
    with contextlib.suppress(ArgumentError, ValueError):
        url = sqlalchemy.make_url(text)
    secret = url and (url.password or {"password", "sslpassword"} & url.query.keys())
    if secret and "MLFLOW_RUN_ID" in os.environ:
        instead = "in PGPASSWORD or ~/.pgpass"
        logger.warning("`mlflow run` has logged a password: next time, give it %s", instead)
    kind = url.get_backend_name() if url else ""
    if not url or kind not in ("sqlite", "postgresql") or url.database in (None, "", ":memory:"):
        received = shown(text) if "://" in text else "..."  # it may still hold a password
        raise ValueError(f"Unknown kind of storage. {EXPECTED}. Received: storage={received!r}")
    if kind == "sqlite":
        path = user_path(str(url.database))
        if not path.parent.is_dir():  # the lock's would be made
            raise ValueError(
                f"There is no such folder for the storage. {EXPECTED}, the file in a folder that "
                f"exists. Received: storage={shown(text)!r}, folder={str(path.parent)!r}"
            )
        url = url.set(database=str(path))
    return url
