"""Allows a run one driver process at a time, and tells other processes whether it is alive."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.ownership import writes_for_oneself
from raytune_ft.paths import RunDirectory, read_json, write_json

SIGN_S = 10.0
"""Seconds between two heartbeats of a driver."""
SILENT_S = 60.0
"""Seconds without a heartbeat after which a driver on another machine is taken for dead."""


@dataclass(frozen=True)
class Driver:
    """A run's last driver process.

    Attributes:
        host: Name of its machine.
        pid: Its process id there.
        born: When the process began, in seconds since the epoch by its machine's clock. It tells the process from a
            later one with the same id.
        seen: When its last heartbeat was, in seconds since the epoch.
        ended: Whether it ended by itself.
        pids: The kernel's number of the namespace that `pid` belongs to: a container has its own.
    """

    host: str
    pid: int
    born: float
    seen: float
    ended: bool = False
    pids: int = 0

    def dead(self, now: float | None = None) -> bool:
        """Returns whether the driver ended without a last message, as when it was killed.

        Args:
            now: The time in seconds since the epoch; None for the present.
        """
        if self.ended:
            return False
        if (self.host, self.pids) != (socket.gethostname(), _pid_namespace()):
            return (time.time() if now is None else now) - self.seen > SILENT_S
        try:
            return abs(psutil.Process(self.pid).create_time() - self.born) > 1.0
        except psutil.Error:
            return True


def read_driver(run: RunDirectory) -> Driver | None:
    """Returns the run's last driver, or None where no readable record of one is left."""
    try:
        return Driver(**read_json(run.driver)) if run.driver.is_file() else None
    except (OSError, IntegrityError, TypeError):
        return None


@contextmanager
def only_driver(run: RunDirectory) -> Iterator[None]:
    """Locks the run for this process: two would hand out the same trials. A killed process leaves no lock behind.

    Raises:
        InputError: Another process holds the lock.
    """
    run.root.parent.mkdir(parents=True, exist_ok=True)
    with writes_for_oneself():  # else `check_own` refuses the run where the umask lets a group write
        run.root.mkdir(exist_ok=True)
        with _alone(run):
            yield


@contextmanager
def _alone(run: RunDirectory) -> Iterator[None]:
    lock = FileLock(run.root / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            str(run.root), "another sweep or training runs in it", "wait for its end, or stop it"
        ) from None
    try:
        with _known(run.driver):
            yield
    finally:
        lock.release()


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # another system
        return 0


@contextmanager
def _known(path: Path) -> Iterator[None]:
    """Writes this process's heartbeats to `path` until the block ends."""
    born = psutil.Process().create_time()
    over = threading.Event()

    def say(*, ended: bool = False) -> None:
        with suppress(OSError):  # a full disk is reported elsewhere
            write_json(
                path, asdict(Driver(socket.gethostname(), os.getpid(), born, time.time(), ended, _pid_namespace()))
            )

    def keep_saying() -> None:
        while not over.wait(SIGN_S):
            say()

    say()
    thread = threading.Thread(target=keep_saying, name="driver's sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        say(ended=True)
