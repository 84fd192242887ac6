"""Where a study is kept, SQLite or PostgreSQL, and the locks that its processes share."""

import contextlib
import re
import time
import warnings
import zlib

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from colorization.address import redacted, shown

DEFAULT = "sqlite:///sweeps.db"
HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 20  # of silence; then a trial's process counts as dead
BUSY_SECONDS = 60  # SQLite lets one process write at a time: how long the others wait
LOCK_POLL_SECONDS = 0.2
CONNECT_SECONDS = 10  # until a PostgreSQL that does not answer counts as away
KEEPALIVES = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"

_EXPECTED = "Expected sqlite:///file.db or postgresql://user@host/database"


@contextlib.contextmanager
def experimental():
    """Use, inside it, what Optuna calls experimental, unwarned: its version is pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


class Storage:
    """An Optuna storage that a process may leave at any moment without harm to the others.

    Args:
        url: `sqlite:///file.db` or `postgresql://user@host/database`.
        on_dead_trial: function of an Optuna study and a trial that was failed because its process
            had not been heard of for `GRACE_SECONDS`.

    Attributes:
        shown: the URL as `address.shown` shows it.
        has_password: whether there was one in it.
        optuna: `optuna.storages.RDBStorage`.

    Raises:
        ValueError: the URL is of another kind, or nobody answers there.
    """

    def __init__(self, url, on_dead_trial):
        self._url = _parse(url)
        self.shown = shown(url)
        named = [name for name in self._url.query if "password" in name.lower()]
        self.has_password = bool(self._url.password or named)
        try:
            with self.lock("tables"):  # two at once cannot create the same tables
                self.optuna = _open(self._url, on_dead_trial)
        except (StorageInternalError, SQLAlchemyError, ImportError, RuntimeError, OSError) as error:
            reason = redacted(getattr(error, "orig", None) or error, url).strip().splitlines()[0]
            raise ValueError(
                f"The storage does not answer. {_EXPECTED}, of a running server. "
                f"Received: storage={self.shown!r}: {reason}"
            ) from error

    def lock(self, name):
        """Return a lock that one process holds at a time, on all machines that share the storage.

        A process that dies lets go of it. Has `acquire`, `release` (any number of times) and the
        two together as a context manager.
        """
        key = zlib.crc32(name.encode())
        if self._url.get_backend_name() == "sqlite":
            return FileLock(f"{self._url.database}.{key:08x}.lock")
        return _ServerLock(self._url, key)


class _RDBStorage(optuna.storages.RDBStorage):
    """Optuna's storage, whose heart goes on beating after the server was away for a while."""

    def record_heartbeat(self, trial_id):
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


class _ServerLock:
    """An advisory lock of PostgreSQL: held by a connection, and gone with it."""

    def __init__(self, url, key):
        self._engine = sqlalchemy.create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            # A machine that lost power holds no lock.
            connect_args={"options": KEEPALIVES, "connect_timeout": CONNECT_SECONDS},
        )
        self._taken = sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(key))
        self._connection = None

    def acquire(self):
        try:
            self._connection = self._engine.connect()
            # Asked again and again: waiting inside the server, nothing would hear of Ctrl-C.
            while not self._connection.scalar(self._taken):
                time.sleep(LOCK_POLL_SECONDS)
        except BaseException as error:
            self.release()
            if isinstance(error, SQLAlchemyError):
                raise StorageInternalError(str(getattr(error, "orig", error))) from error
            raise

    def release(self):
        if self._connection:
            self._connection.close()
            self._connection = None

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *_):
        self.release()


def _parse(text):
    try:
        url = sqlalchemy.make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        # What cannot be read may still hold a password: tell its kind only.
        kind = re.match(r"([\w+]+://)?", text)[0]
        raise ValueError(
            f"The storage's URL cannot be read. {_EXPECTED}. Received: {kind!r}..."
        ) from None
    if backend not in ("sqlite", "postgresql") or not url.database or url.database == ":memory:":
        raise ValueError(f"Unknown kind of storage. {_EXPECTED}. Received: storage={shown(text)!r}")
    if "password" in url.query:
        raise ValueError(
            "A password stands in the storage's query, where logs would show it. Expected it in "
            "PGPASSWORD or ~/.pgpass."
        )
    return url


@experimental()
def _open(url, on_dead_trial):
    # A server that was started again is found again.
    options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
    if url.get_backend_name() == "sqlite":
        options = {"connect_args": {"timeout": BUSY_SECONDS}}
    return _RDBStorage(
        url.render_as_string(hide_password=False),
        engine_kwargs=options,
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
        heartbeat_stale_trial_callback=on_dead_trial,
    )
