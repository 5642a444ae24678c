"""Requests wait for no log: a thread writes them, and what it has no room for is counted."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.serving.gateway import guard
from raytune_ft.serving.gateway.guard import Guard
from raytune_ft.serving.records.line_file import LineFile, as_line
from raytune_ft.serving.records.log_queue import LogQueue
from raytune_ft.serving.records.metrics import CHAMPION_HELD_BACK, LOG_LOST, Metric, Metrics, Sample
from raytune_ft.serving.records.records import RecordLog, RequestRecord, read_records
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs

RECORD = RequestRecord("2026-11-22T10:00:00.000+00:00", "r", None, "chat", "base")


class Hanging(LineFile):
    """A file on a disk that answers nothing for a while."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.answers, self.asked = threading.Event(), threading.Event()

    def append(self, lines: bytes, count: int) -> bool:
        self.asked.set()
        assert self.answers.wait(60)
        return super().append(lines, count)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    file = Hanging(tmp_path / "access-a.jsonl")
    yield file
    file.answers.set()


def test_lines_are_written_in_their_order(tmp_path: Path) -> None:
    queue = LogQueue()
    log = RecordLog(tmp_path, "a", prompts=False, queue=queue)
    for number in range(5000):
        log.write(RequestRecord(RECORD.time, str(number), None, "chat", "base"))
    assert queue.flush(60) and queue.lost == 0
    assert [record.request for record in read_records(tmp_path)] == [str(number) for number in range(5000)]


def test_a_disk_that_hangs_costs_lines_and_no_time(hanging: Hanging, caplog: pytest.LogCaptureFixture) -> None:
    """Faults 37 and 43."""
    line = as_line({"n": 1})
    queue = LogQueue(most_bytes=100 * len(line))
    assert queue.put(hanging, line)
    assert hanging.asked.wait(50)
    taken = [queue.put(hanging, line) for _ in range(1000)]
    assert (taken.count(True), queue.lost) == (99, 901), "what is being written counts too"
    assert not queue.flush(0.01)
    assert len(caplog.messages) == 1
    hanging.answers.set()
    assert queue.flush(50) and queue.lost == 901
    assert queue.put(hanging, line) and queue.flush(50)


def test_a_flood_of_refused_requests_displaces_no_record_of_an_answered_one(hanging: Hanging, tmp_path: Path) -> None:
    queue = LogQueue(most_bytes=1 << 20)
    refused = RecordLog(tmp_path, "a", prompts=False, queue=queue, kind="refused")
    answered = RecordLog(tmp_path, "a", prompts=False, queue=queue)
    refused._access = hanging
    for _ in range(10_000):
        refused.write(RECORD)
    lost, waiting = queue.lost, queue._bytes
    assert lost > 0 and waiting <= 1 << 18
    for _ in range(100):
        answered.write(RECORD)
    assert queue.lost == lost
    hanging.answers.set()
    assert queue.flush(50)
    assert len((tmp_path / "access-a.jsonl").read_text().splitlines()) == 100 + 10_000 - lost
    for _ in range(100):
        refused.write(RECORD)
    assert queue.flush(50) and queue.lost == lost, "what was written takes no room any more"


@pytest.mark.parametrize("asked", [iter([1]), functools.reduce(lambda inner, _: [inner], range(100_000), [])])
def test_words_that_make_no_line_fail_no_request_and_are_counted(tmp_path: Path, asked: Any) -> None:
    queue = LogQueue()
    for log in (RecordLog(tmp_path, "a", prompts=True, queue=queue), RecordLog(tmp_path, "b", prompts=True)):
        log.write_prompt("r", None, "base", asked, "answer")
    assert queue.lost == 1


def test_the_writer_outlives_who_is_told(tmp_path: Path) -> None:
    queue, file = LogQueue(), LineFile(tmp_path / "feedback-a.jsonl")

    def broken(well: bool) -> None:
        raise TypeError("broken")

    assert queue.put(file, b"1\n", broken) and queue.flush(50)
    assert queue.put(file, b"2\n") and queue.flush(50)
    assert (tmp_path / "feedback-a.jsonl").read_bytes() == b"1\n2\n"


def test_a_line_of_thousands_of_brackets_is_a_broken_line(tmp_path: Path) -> None:
    log = RecordLog(tmp_path, "a", prompts=False)
    (tmp_path / "access-b.jsonl").write_text("[" * 100_000 + "\n")
    log.write(RECORD)
    assert list(read_records(tmp_path)) == [RECORD]


def test_lines_that_the_disk_refuses_are_counted(tmp_path: Path) -> None:
    """Fault 43."""
    queue = LogQueue()
    (tmp_path / "access-a.jsonl").mkdir()
    log = RecordLog(tmp_path, "a", prompts=False, queue=queue)
    for _ in range(7):
        log.write(RECORD)
    assert queue.flush(50) and queue.lost == 7


def test_who_wants_to_know_is_told_and_does_not_wait_for_ever(hanging: Hanging, tmp_path: Path) -> None:
    queue, well = LogQueue(), LineFile(tmp_path / "feedback-a.jsonl")
    assert asyncio.run(queue.written(well, b"{}\n", 50)) is True
    assert asyncio.run(queue.written(hanging, b"{}\n", 0.01)) is None
    hanging.answers.set()
    assert queue.flush(50), "the loop that waited is closed, and the writer goes on"
    assert asyncio.run(queue.written(well, b"{}\n", 50)) is True


def test_the_door_answers_on_while_its_log_hangs(
    hanging: Hanging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 43: 10,000 refused requests."""
    monkeypatch.setenv(API_KEY_VARIABLE, "a-good-long-key")
    queue = LogQueue(most_bytes=100_000)
    monkeypatch.setattr(guard, "log_queue", lambda: queue)
    door = Guard(lambda *_: None, args=ServeArgs(base_model="x", log_dir=str(tmp_path)))  # type: ignore[arg-type, return-value]
    assert door._records is not None
    door._records._access = hanging
    statuses: list[int] = []

    async def receive() -> Any:
        raise AssertionError("nothing is read of who has no key")

    async def send(message: Any) -> None:
        if "status" in message:
            statuses.append(message["status"])

    async def run() -> None:
        scope = {"type": "http", "client": ("10.0.0.9", 1), "method": "POST", "path": "/v1/completions", "headers": []}
        for _ in range(10_000):
            await door(dict(scope), receive, send)

    asyncio.run(run())
    assert statuses == [401] * 10_000
    assert 9_000 < queue.lost < 10_000
    assert not (tmp_path / "access-a.jsonl").exists()


def test_what_is_lost_and_held_back_is_told_to_prometheus() -> None:
    told: list[tuple[str, str, float, dict[str, str]]] = []

    class Told:
        def __init__(self, metric: Metric) -> None:
            self.name = metric.name

        def inc(self, value: float, labels: dict[str, str]) -> None:
            told.append(("inc", self.name, value, labels))

        def set(self, value: float, labels: dict[str, str]) -> None:
            told.append(("set", self.name, value, labels))

    metrics = Metrics(Told)
    lost, held = [0.0], [{"model": "base:movies@3"}]

    def held_back() -> list[Sample]:
        return [(labels, 1.0) for labels in held]

    metrics.poll(LOG_LOST, lambda: [({}, lost[0])])
    metrics.poll(CHAMPION_HELD_BACK, held_back)
    metrics.tell_polled()
    lost[0] = 5.0
    metrics.tell_polled()
    held.clear()
    lost[0] = 7.0
    metrics.tell_polled()
    metrics.tell_polled()
    assert [each for each in told if each[0] == "inc"] == [
        ("inc", "raytune_ft_log_lines_lost", 5.0, {}), ("inc", "raytune_ft_log_lines_lost", 2.0, {}),
    ]  # fmt: skip
    assert [each[2] for each in told if each[1] == "raytune_ft_champion_held_back"] == [1.0, 1.0, 0.0, 0.0]


def test_a_poll_that_fails_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    told: list[float] = []

    class Told:
        def __init__(self, metric: Metric) -> None: ...

        def inc(self, value: float, labels: dict[str, str]) -> None:
            told.append(value)

        set = inc

    def broken() -> list[Sample]:
        raise ValueError("broken")

    metrics = Metrics(Told)
    metrics.poll(CHAMPION_HELD_BACK, broken)
    metrics.poll(LOG_LOST, lambda: [({}, 1.0)])
    with caplog.at_level(logging.ERROR):
        metrics.tell_polled()
    assert told == [1.0] and "broken" in caplog.text
