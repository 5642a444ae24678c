"""The journal of alias and traffic moves: one line for each, written before the move and never changed afterwards."""

from __future__ import annotations

import errno
import getpass
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.paths import read_json, sync_directory
from raytune_ft.registry.files import JOURNAL_NAME, TRAFFIC_NAME, AdapterFiles

if TYPE_CHECKING:
    from pathlib import Path


Action = Literal["promote", "rollback", "alias", "traffic", "canary_end", "not_carried_out"]


@dataclass(frozen=True)
class Move:
    """One line of the journal. Callers give what they know; the registry fills in the rest.

    Attributes:
        action: The kind of move; `not_carried_out` says that the move of the line before never happened.
        alias: The alias that moved; None for a traffic rule.
        before: Version or traffic rule before the move, None if there was none; `from` in the file.
        after: Version or traffic rule after the move; `to` in the file.
        study: The study whose winner the version is.
        trial: The winning trial.
        forced: Whether a gate was overruled.
        gates: The verdict of each gate.
        command: The command that the user typed.
        time: UTC, ISO 8601.
        who: `user@host`.
    """

    action: Action = "alias"
    alias: str | None = None
    before: Any = None
    after: Any = None
    study: str | None = None
    trial: str | None = None
    forced: bool = False
    gates: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None
    time: str = ""
    who: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as they are written to the file."""
        values = asdict(self)
        head = {"time": values.pop("time"), "who": values.pop("who"), "action": values.pop("action")}
        moved = {"alias": values.pop("alias"), "from": values.pop("before"), "to": values.pop("after")}
        return head | moved | values


def read_journal(registry: AdapterFiles, adapter: str) -> list[Move]:
    """Every move of the adapter's aliases and traffic, oldest first; a torn last line is left out.

    Raises:
        IntegrityError: A line before the last is not a valid move.
    """
    path = registry.file(adapter, JOURNAL_NAME)
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    while lines and not lines[-1].strip():
        lines.pop()
    moves = []
    for number, line in enumerate(lines, 1):
        move = _parse(line)
        if move is not None:
            moves.append(move)
        elif number < len(lines):
            raise IntegrityError(f"{path}:{number}: is no move; take the line out")
    return moves


def last_moved(registry: AdapterFiles, adapter: str) -> int:
    """The greatest version that an alias ever pointed to, whether its files are still there or not; 0 without one."""
    path = registry.file(adapter, JOURNAL_NAME)
    moves = map(_parse, path.read_bytes().split(b"\n")) if path.is_file() else ()
    return max((to for move in moves if move and isinstance(to := move.after, int)), default=0)


def record(registry: AdapterFiles, adapter: str, move: Move) -> None:
    """Appends `move` before it is made; the caller holds the adapter's lock.

    If the move of the last line was never made, a line that says so is added first.

    Raises:
        RaytuneError: The line could not be written, so that the move must not be made.
    """
    path = registry.file(adapter, JOURNAL_NAME)
    if (left := unsettled(registry, adapter)) is not None:
        _append(path, replace(left, action="not_carried_out", command=None, time=_now(), who=_who()))
    _append(path, replace(move, time=_now(), who=_who()))


def unsettled(registry: AdapterFiles, adapter: str) -> Move | None:
    """The last line's move, where the files say that it did not happen: its process ended in between."""
    path = registry.file(adapter, JOURNAL_NAME)
    last = _last(path.read_bytes())[1] if path.is_file() else None
    if last is None or last.action == "not_carried_out":
        return None
    if last.action == "traffic":
        rule = registry.file(adapter, TRAFFIC_NAME)
        try:
            happened = (read_json(rule) if rule.is_file() else None) == last.after
        except IntegrityError:  # the rule broke later, so that this can't be told; it is about to be replaced
            happened = True
    else:
        happened = last.alias is None or registry.alias(adapter, last.alias) == last.after
    return None if happened else last


def _append(path: Path, move: Move) -> None:
    data = json.dumps(move.to_json()).encode() + b"\n"
    new = not path.exists()
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            with open(handle, "rb", closefd=False) as stream:
                present = stream.read()
            whole = _last(present)[0]
            if whole < len(present):  # an incomplete line of a killed process, whose move was not made
                os.ftruncate(handle, whole)
            elif present and not present.endswith(b"\n"):
                data = b"\n" + data
            if os.write(handle, data) != len(data):
                os.ftruncate(handle, whole)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            sync_directory(path.parent)
    except OSError as error:
        raise RaytuneError(f"{path}: {error.strerror}; without its line nothing is moved") from error


def _last(data: bytes) -> tuple[int, Move | None]:
    """Returns the number of bytes of complete lines, and the move of the last; an incomplete last line is left out."""
    body = data.rstrip(b"\n")
    start = body.rfind(b"\n") + 1
    if (move := _parse(body[start:])) is not None:
        return len(data), move
    before = body[:start].rstrip(b"\n")
    return start, _parse(before[before.rfind(b"\n") + 1 :])


def _parse(line: bytes) -> Move | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("action") not in get_args(Action):
        return None
    known = {name: value[name] for name in Move.__dataclass_fields__ if name in value}
    return Move(**known | {"before": value.get("from"), "after": value.get("to")})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
