"""Every listener hears every event in order, and what was written is read again, also after a killed driver."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from raytune_ft.events.kinds import Closed, Ended, Event, Progressed, Reported, Started
from raytune_ft.events.log import EventLog, read_events
from raytune_ft.events.stream import EventStream
from raytune_ft.paths import RunDirectory
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.progress import Phase, TrialProgress

EVENTS: list[Event] = [
    Started("0000", {"method.r": 8}),
    Reported("0000", {"step": 5, "metrics": {"eval_loss": 0.5}, "rung": 1}),
    Ended("0000", Outcome(OutcomeKind.pruned, "stopped by asha at step 5", 5, 0.5, 2.0)),
    Closed("all trials have ended"),
]


def test_listeners_hear_each_event_in_their_order() -> None:
    heard: list[tuple[str, Event]] = []
    stream = EventStream([lambda event: heard.append(("first", event)), lambda event: heard.append(("second", event))])
    for event in EVENTS:
        stream(event)
    assert heard == [(name, event) for event in EVENTS for name in ("first", "second")]


def test_threads_are_heard_one_after_the_other() -> None:
    heard: list[str] = []

    def slow(event: Event) -> None:
        assert isinstance(event, Started)
        heard.append(f"{event.trial} begins")
        time.sleep(0.002)
        heard.append(f"{event.trial} ends")

    stream = EventStream([slow])
    threads = [threading.Thread(target=lambda n=n: [stream(Started(f"{n}", {})) for _ in range(10)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pairs = list(zip(heard[::2], heard[1::2], strict=True))
    assert len(pairs) == 40 and all(one.split()[0] == other.split()[0] for one, other in pairs)


def test_each_event_is_a_line_and_a_later_driver_adds_its_own(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    for log, events in ((EventLog(run), EVENTS), (EventLog(run), EVENTS[:1])):
        for event in events:
            log(event)
    lines = list(read_events(run.events))
    assert [line["event"] for line in lines] == ["started", "reported", "ended", "closed", "started"]
    assert all(line["schema"] == 1 and line["time"].endswith("+00:00") for line in lines)
    assert lines[0]["parameters"] == {"method.r": 8} and lines[1]["report"]["metrics"] == {"eval_loss": 0.5}
    assert (lines[2]["trial"], lines[2]["outcome"], lines[2]["value"]) == ("0000", "pruned", 0.5)
    assert (lines[2]["reason"], lines[2]["step"], lines[2]["seconds"]) == ("stopped by asha at step 5", 5, 2.0)
    assert list(read_events(tmp_path / "none")) == []


def test_the_half_line_of_a_killed_driver_costs_no_later_event(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    EventLog(run)(EVENTS[0])
    with run.events.open("a") as stream:
        stream.write('{"schema": 1, "time": "2026-12-')
    later = EventLog(run)
    for event in EVENTS[2:]:
        later(event)
    assert [line["event"] for line in read_events(run.events)] == ["started", "ended", "closed"]


def test_progress_is_written_where_the_phase_changes(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    log = EventLog(run)
    for phase, step in (
        (Phase.training, 1), (Phase.training, 2), (Phase.evaluating, 5), (Phase.evaluating, 5), (Phase.training, 6)
    ):  # fmt: skip
        log(Progressed("0000", TrialProgress(phase, step, 10, 45)))
    log(Progressed("0001", None))
    assert [(line["state"]["phase"], line["state"]["step"]) for line in read_events(run.events)] == [
        ("training", 1),
        ("evaluating", 5),
        ("training", 6),
    ]
