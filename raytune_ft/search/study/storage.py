"""Opens the storage of a study: SQLite in the run's directory, a journal file, or a database by URL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raytune_ft.config.files.resolve import REDACTED, redact
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.paths import RunDirectory

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

LOCKED_S = 30.0
"""Seconds to wait for a locked SQLite file."""
CONNECT_S = 10
"""Seconds that a server may take to accept a connection."""
JOURNALS = (".journal", ".log")
JOURNAL_SCHEME = "journal:"
DRIVERS = {"postgresql://": "postgresql+psycopg://", "postgres://": "postgresql+psycopg://"}
"""URL schemes with the PostgreSQL driver that the package installs; SQLAlchemy would choose another one."""
_CREATED_MEANWHILE = ("already exists", "duplicate key", "UNIQUE constraint failed")
_ATTEMPTS = 6

T = TypeVar("T")


def journal_path(storage: str) -> Path | None:
    """Returns the path of the journal file that `storage` names, or None where it is a URL."""
    if storage.startswith(JOURNAL_SCHEME):
        return Path(storage.removeprefix(JOURNAL_SCHEME)).expanduser().resolve()
    if "://" not in storage and storage.endswith(JOURNALS):
        return Path(storage).expanduser().resolve()
    return None


def open_storage(storage: str | None, run: RunDirectory) -> BaseStorage:
    """Opens `search.storage`, and creates it where it does not exist.

    Args:
        storage: A journal's path, a URL, or None for SQLite in the run's directory. A password that is `***`, as in the
            run's experiment.yaml, is left to the driver: PostgreSQL's takes PGPASSWORD, or its password file.
        run: The run directory.

    Raises:
        InputError: The storage can't be opened; the message shows no password.
    """
    with storage_opens(storage, run):
        if storage is None:
            run.root.mkdir(parents=True, exist_ok=True)
            return _database(f"sqlite:///{run.study.resolve()}")
        path = journal_path(storage)
        return _journal(path) if path else _database(_url(storage))


@contextmanager
def storage_opens(storage: str | None, run: RunDirectory) -> Iterator[None]:
    """Turns any error in this block, before anything has started, into an InputError.

    Raises:
        InputError: The block raised an error; the message names the storage on one line.
    """
    try:
        yield
    except RaytuneError:
        raise
    except Exception as error:  # each database driver has its own error classes
        where, what, remedy = _line(error, storage, run)
        raise InputError(where, what, remedy) from error


@contextmanager
def storage_answers(storage: str | None, run: RunDirectory) -> Iterator[None]:
    """Turns the storage's errors in this block into one line that names it.

    Raises:
        RaytuneError: The storage failed: a locked file, a server that is gone, a full disk.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        where, what, remedy = _line(error, storage, run)
        raise RaytuneError(f"{where}: {what}; {remedy}, then add --resume") from error


def _line(error: BaseException, storage: str | None, run: RunDirectory) -> tuple[str, str, str]:
    """Returns the parts of an error message: where, what (on one line, without a password) and the remedy."""
    where = "search.storage" if storage else str(run.study)
    cause = error.__cause__ if type(error).__name__ == "StorageInternalError" and error.__cause__ else error
    what = (str(cause).splitlines() or [type(cause).__name__])[0]
    if "database is locked" in what:
        return where, f"locked by another process for {LOCKED_S:g} s", "wait for its end, or use another storage"
    if secret := _password(storage or ""):
        what = what.replace(secret, REDACTED)
    if storage and f":{REDACTED}@" in storage:
        return where, str(redact(what)), "the run's files keep no password: set PGPASSWORD, or have a password file"
    return where, str(redact(what)), "check the URL and that it answers"


def _url(storage: str) -> str:
    """Returns the URL with the installed driver, without the `***` that stands for a password in the run's files."""
    for scheme, driver in DRIVERS.items():
        if storage.startswith(scheme):
            storage = driver + storage.removeprefix(scheme)
    scheme, separator, rest = storage.partition("://")
    if rest.partition("?")[0].count("@") > 1:
        raise InputError("search.storage", "its user or password holds an @", "write that as %40")
    return scheme + separator + rest.replace(f":{REDACTED}@", "@", 1)


def _password(storage: str) -> str:
    user, at, _ = storage.partition("://")[2].rpartition("@")
    return user.partition(":")[2] if at else ""


def _database(url: str) -> BaseStorage:
    from optuna.storages import RDBStorage

    if url.startswith("sqlite"):
        options: dict[str, Any] = {"connect_args": {"timeout": LOCKED_S}}
    else:
        options = {"pool_pre_ping": True}  # reconnects to a server that was restarted during a sweep
        if url.startswith("postgresql+psycopg"):
            options["connect_args"] = {"connect_timeout": CONNECT_S}
    return _beside_others(lambda: RDBStorage(url, engine_kwargs=options))


def _beside_others(create: Callable[[], T]) -> T:
    """Returns what `create` returns; tries again where another sweep creates the same tables at the same moment."""
    from sqlalchemy.exc import SQLAlchemyError

    for attempt in range(1, _ATTEMPTS):
        try:
            return create()
        except SQLAlchemyError as error:
            if not any(words in str(error) for words in _CREATED_MEANWHILE):
                raise
            time.sleep(0.2 * attempt)
    return create()


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(path))  # the other kind takes a lock for held if its writer's path was relative
    if path.exists():
        lock.acquire()
        try:
            _cut_half_line(path)
        finally:
            lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock))


def _cut_half_line(path: Path) -> None:
    """Removes an unfinished last line of a killed writer: the next line would be appended to it, and both be lost."""
    with path.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        kept = end
        while kept:
            begin = max(0, kept - 65536)
            stream.seek(begin)
            newline = stream.read(kept - begin).rfind(b"\n")
            kept = begin + newline + 1 if newline >= 0 else begin
            if newline >= 0:
                break
        if kept < end:
            stream.truncate(kept)
