"""Fault 19: every bad line is named with its number and reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytune_ft.config.data import DataFormat
from raytune_ft.data.bad_rows import raise_bad_rows
from raytune_ft.data.rows import Row
from raytune_ft.data.sources.jsonl import read_rows
from raytune_ft.errors import InputError

GOOD = json.dumps({"prompt": "Is it good?", "completion": " yes"}).encode()


def read(path: Path) -> list[Row]:
    rows, bad = read_rows("data.train", path, DataFormat.prompt_completion)
    raise_bad_rows([bad])
    return rows


def file_with(tmp_path: Path, *lines: bytes) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_bad_json_on_line_17_is_named_with_its_column(tmp_path: Path) -> None:
    path = file_with(tmp_path, *[GOOD] * 16, b'{"prompt": "x" "completion": "y"}', GOOD)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.where == f"{path}:17"
    assert "bad JSON at column 16" in caught.value.what
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"prompt": "Café", "completion": " yes"}'.encode("latin-1"), "not UTF-8: byte 0xe9 at byte 16"),
        (b'{"prompt": "a\0b", "completion": " yes"}', "holds a NUL byte at byte 14"),
        (b'{"prompt": "a\\u0000b", "completion": " yes"}', "holds a NUL character"),
        (b'{"prompt": "\\ud800", "completion": " yes"}', "half a surrogate pair"),
        (b'{"prompt": "a", "prompt": "b", "completion": " yes"}', 'key "prompt" stands twice'),
        (b"[" * 100_000, "bad JSON"),
        (b"1" * 5000, "bad JSON"),
        (b'"text"', "is a string, not an object"),
        (b"null", "is null, not an object"),
    ],
)
def test_a_damaged_line_is_refused_with_its_reason(tmp_path: Path, line: bytes, what: str) -> None:
    path = file_with(tmp_path, GOOD, line)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.where == f"{path}:2"
    assert what in caught.value.what
    assert len(str(caught.value)) < 400


def test_a_50_mb_line_is_refused_and_the_lines_after_it_are_still_read(tmp_path: Path) -> None:
    path = file_with(tmp_path, b'{"prompt": "' + b"x" * 50_000_000 + b'", "completion": " yes"}', GOOD, b"{")
    rows, bad = read_rows("data.train", path, DataFormat.prompt_completion)
    assert [row.line for row in rows] == [2]
    first, second = bad.lines()
    assert (first.where, second.where) == (f"{path}:1", f"{path}:3")
    assert "47.7 MiB long; 10 MiB is the limit" in first.what


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n" + GOOD)
    assert [row.line for row in read(path)] == [1, 3]


def test_utf_16_is_named_once_rather_than_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text((GOOD.decode() + "\n") * 20, encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16; save it as UTF-8") as caught:
        read(path)
    assert caught.value.others == ()


def test_a_json_array_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one JSON array: write one object a line"):
        read(file_with(tmp_path, b"[", GOOD + b",", GOOD, b"]"))


def test_the_first_ten_bad_lines_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    path = file_with(tmp_path, *[b"{"] * 13)
    with pytest.raises(InputError) as caught:
        read(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert [line.split(":")[1] for line in lines[:10]] == [str(number) for number in range(1, 11)]
    assert lines[10] == f"{path}: and 3 more bad lines"


def test_a_missing_file_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.train: no file .*nowhere\.jsonl; "):
        read(tmp_path / "nowhere.jsonl")


def test_a_directory_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.train: .*can't be read"):
        read(tmp_path)
