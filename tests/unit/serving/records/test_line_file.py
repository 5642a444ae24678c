"""The endpoint's logs stay below a size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raytune_ft.serving.records.line_file import LineFile
from raytune_ft.serving.records.records import RecordLog, RequestRecord, read_records
from raytune_ft.serving.settings import ServeArgs

LINE = b"x" * 99 + b"\n"
MOST = 16_000  # a file begins anew at 1,000 bytes


def size(directory: Path, pattern: str = "*.jsonl") -> int:
    return sum(path.stat().st_size for path in directory.glob(pattern))


def test_a_log_that_grows_without_end_stays_below_its_size(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "access-a.jsonl", MOST)
    for number in range(1000):
        assert file.append(LINE, 1)
        if number % 50 == 0:
            assert size(tmp_path) <= MOST
    assert MOST - 2000 <= size(tmp_path) <= MOST
    assert all(path.read_bytes().endswith(b"x\n") for path in tmp_path.iterdir())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_what_ended_replicas_left_goes_first_and_other_kinds_and_files_stay(tmp_path: Path) -> None:
    for name, age_s in (("access-old.jsonl", 200), ("access-newer.jsonl", 100), ("feedback-old.jsonl", 300)):
        (tmp_path / name).write_bytes(LINE * 80)
        os.utime(tmp_path / name, (1_700_000_000 - age_s,) * 2)
    (tmp_path / "access-notes.txt").write_bytes(LINE * 500)
    (tmp_path / "access-link.jsonl").symlink_to(tmp_path / "access-notes.txt")
    LineFile(tmp_path / "access-a.jsonl", MOST).append(LINE, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "access-a.jsonl", "access-link.jsonl", "access-newer.jsonl", "access-notes.txt", "feedback-old.jsonl",
    ]  # fmt: skip


def test_pieces_are_read_as_one_log(tmp_path: Path) -> None:
    log = RecordLog(tmp_path, "a", prompts=False, most_bytes=64_000)
    for number in range(100):
        log.write(RequestRecord(f"2026-11-22T10:00:{number // 2:02d}.000+00:00", str(number), None, "chat", "base"))
    assert len(list(tmp_path.glob("access-a.*.jsonl"))) > 3
    assert [record.request for record in read_records(tmp_path)] == [str(number) for number in range(100)]


def test_refused_requests_displace_no_record_of_an_answered_one(tmp_path: Path) -> None:
    RecordLog(tmp_path, "a", prompts=False, most_bytes=MOST).write(RequestRecord("2026", "answered", None, "chat", "b"))
    door = RecordLog(tmp_path, "a", prompts=False, kind="refused", most_bytes=MOST)
    for _ in range(500):
        door.write(RequestRecord("2026", "", None, "chat", "", status=401))
    assert size(tmp_path, "refused-*.jsonl") <= MOST
    assert [each.request for each in read_records(tmp_path) if each.status == 200] == ["answered"]


@pytest.mark.parametrize("mib", [15, 0, -1])
def test_a_size_that_holds_nothing_is_refused(mib: int) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 16"):
        ServeArgs(base_model="x", max_log_mib=mib)
