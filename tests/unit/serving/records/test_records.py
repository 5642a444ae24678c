from __future__ import annotations

import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raytune_ft.serving.records.records import RecordLog, RequestRecord, read_prompts, read_records

RECORD = RequestRecord(
    time="2026-11-22T10:00:00.000+00:00", request="r1", key="default", route="completions", asked="base:movies",
    answered="base:movies@3", alias="champion", prompt_tokens=7, completion_tokens=2, ttft_ms=31.5, total_ms=80.0,
)  # fmt: skip


def at(time: str, request: str) -> RequestRecord:
    return RequestRecord(time, request, None, "chat", "base")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    RecordLog(tmp_path / "log", "a", prompts=False).write(RECORD)
    assert list(read_records(tmp_path / "log")) == [RECORD]


def test_the_logs_are_for_their_owner_alone(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "log", "app#ingress/../../x", prompts=True)
    log.write(RECORD)
    log.write_prompt("r1", None, "base", "secret", "answer")
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700
    files = sorted((tmp_path / "log").iterdir())
    assert [path.name for path in files] == ["access-app-ingress-..-..-x.jsonl", "requests-app-ingress-..-..-x.jsonl"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_words_are_kept_only_where_they_were_asked_for(tmp_path: Path) -> None:
    for name, wanted in (("without", False), ("with", True)):
        log = RecordLog(tmp_path / name, "a", prompts=wanted)
        log.write(RECORD)
        log.write_prompt("r1", None, "base:movies@3", [{"role": "user", "content": "canary-4711"}], "an answer")
    assert not any("canary-4711" in path.read_text() for path in (tmp_path / "without").iterdir())
    [found] = read_prompts(tmp_path / "with")
    assert (found.request, found.model, found.answer) == ("r1", "base:movies@3", "an answer")
    assert found.asked == [{"role": "user", "content": "canary-4711"}]


def test_replicas_are_merged_by_time_and_cut_at_since(tmp_path: Path) -> None:
    first, second = (RecordLog(tmp_path, name, prompts=False) for name in "ab")
    for log, time, request in (
        (first, "2026-11-22T10:00:00.000+00:00", "1"), (second, "2026-11-22T10:00:01.000+00:00", "2"),
        (first, "2026-11-22T10:00:02.000+00:00", "3"), (second, "2026-11-22T10:00:03.000+00:00", "4"),
    ):  # fmt: skip
        log.write(at(time, request))
    assert [record.request for record in read_records(tmp_path)] == ["1", "2", "3", "4"]
    since = datetime(2026, 11, 22, 10, 0, 2)
    for moment in (since, since.replace(tzinfo=UTC)):
        assert [record.request for record in read_records(tmp_path, moment)] == ["3", "4"]


def test_half_a_line_of_a_killed_writer_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "access-a.jsonl"
    path.write_text('{"time": "2026-11-22T10')
    RecordLog(tmp_path, "a", prompts=False).write(RECORD)
    assert list(read_records(tmp_path)) == [RECORD]


def test_a_newer_field_is_ignored_and_a_line_that_is_no_record_left_out(tmp_path: Path) -> None:
    log = RecordLog(tmp_path, "a", prompts=False)
    log.write(RECORD)
    path = tmp_path / "access-a.jsonl"
    newer = {**json.loads(path.read_text()), "colour": "red", "request": "r2"}
    path.write_text(path.read_text() + json.dumps(newer) + '\n{"time": "2026"}\n[1]\n"x"\n\n')
    assert [record.request for record in read_records(tmp_path)] == ["r1", "r2"]


def test_a_rotated_log_goes_on_in_a_new_file(tmp_path: Path) -> None:
    log = RecordLog(tmp_path, "a", prompts=False)
    log.write(RECORD)
    (tmp_path / "access-a.jsonl").rename(tmp_path / "access-a.jsonl.1")
    log.write(at("2026-11-22T11:00:00.000+00:00", "r2"))
    assert [record.request for record in read_records(tmp_path)] == ["r2"]


def test_a_full_disk_is_told_once_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = RecordLog(tmp_path, "a", prompts=False)
    log.write(RECORD)
    real = os.write

    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            log.write(RECORD)
    assert [message for message in caplog.messages if "No space left" in message] == caplog.messages[:1]
    assert len(caplog.messages) == 1
    monkeypatch.setattr(os, "write", real)
    log.write(RECORD)
    assert len(list(read_records(tmp_path))) == 2
    assert "5 records were lost" in caplog.messages[-1]


def test_a_line_that_the_disk_took_in_part_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RecordLog(tmp_path, "a", prompts=False)
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[: len(data) // 2]))
    log.write(RECORD)
    monkeypatch.setattr(os, "write", real)
    log.write(at("2026-11-22T11:00:00.000+00:00", "r2"))
    assert [record.request for record in read_records(tmp_path)] == ["r2"]


def test_a_model_id_of_any_length_and_letters_makes_one_short_line(tmp_path: Path) -> None:
    log = RecordLog(tmp_path, "a", prompts=False)
    log.write(RequestRecord("2026-11-22T10:00:00.000+00:00", "r", None, "chat", "a\n\x00\ud800" + "x" * 5000))
    lines = (tmp_path / "access-a.jsonl").read_bytes().splitlines()
    assert len(lines) == 1 and len(lines[0]) < 1000
    assert len(list(read_records(tmp_path))) == 1


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    (tmp_path / "access-a.jsonl").symlink_to(target)
    RecordLog(tmp_path, "a", prompts=False).write(RECORD)
    assert target.read_text() == ""
