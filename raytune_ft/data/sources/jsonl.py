"""Reads the rows of JSONL files line by line, so that every bad line has a number and a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from raytune_ft.config.data import DataFormat
from raytune_ft.data.bad_rows import BadRow, BadRows
from raytune_ft.data.formats.choose import parse_row
from raytune_ft.data.rows import Row
from raytune_ft.errors import InputError

MAX_LINE_BYTES = 10 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def read_rows(key: str, path: Path, form: DataFormat) -> tuple[list[Row], BadRows]:
    """Returns the good rows and the bad lines of a JSONL file; skips blank lines and a byte order mark.

    Args:
        key: The setting that names the file, for errors, such as `data.train`.
        path: The file.
        form: The format of its rows.

    Raises:
        InputError: There is no such file, or it can't be read.
    """
    rows, bad = [], BadRows(path)
    try:
        with path.open("rb") as stream:
            for line, raw in _lines(stream):
                try:
                    if isinstance(raw, BadRow):
                        raise raw
                    rows.append(parse_row(_parse(raw, line), line, form))
                except BadRow as problem:
                    bad.add(line, problem)
    except FileNotFoundError:
        raise InputError(key, f"no file {path}", _remedy_for_missing(path)) from None
    except OSError as error:
        raise InputError(
            key, f"{path} can't be read: {error.strerror}", "give a JSONL file that this user may read"
        ) from None
    return rows, bad


def _remedy_for_missing(path: Path) -> str:
    fetched = path.parts[:1] == ("assets",)
    return "run `raytune-ft assets fetch`" if fetched else "paths are relative to the working directory"


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | BadRow]]:
    """Yields the lines that are not blank with their numbers; a line over the limit is skipped without being kept."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            size = len(raw)
            while rest := stream.readline(MAX_LINE_BYTES):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
            limit = MAX_LINE_BYTES // 2**20
            yield (
                number,
                BadRow(f"{size / 2**20:.1f} MiB long; {limit} MiB is the limit of a line", "split or drop the row"),
            )
            continue
        if number == 1:
            if raw.startswith(_UTF16_BOMS):
                yield number, BadRow("the file is UTF-16", "save it as UTF-8")
                return
            raw = raw.removeprefix(_BOM)
        if raw.strip():
            yield number, raw


def _parse(raw: bytes, line: int) -> object:
    if b"\0" in raw:
        raise BadRow(f"holds a NUL byte at byte {raw.index(0) + 1}", "the file is damaged or not text; write it again")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        remedy = "convert the file, e.g. iconv -f latin1 -t utf-8"
        raise BadRow(f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start + 1}", remedy) from None
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        array = line == 1 and text.lstrip().startswith("[")
        remedy = "the file is one JSON array: write one object a line" if array else "write one JSON object a line"
        raise BadRow(f"bad JSON at column {error.colno}: {error.msg}", remedy) from None
    except (ValueError, RecursionError) as error:
        raise BadRow(f"bad JSON: {str(error).split(';')[0]}", "write one plain JSON object a line") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadRow(f'key "{twice}" stands twice', "keep one of them")
    return value
