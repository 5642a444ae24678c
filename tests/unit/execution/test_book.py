"""Who trains what: each turn of the dispatcher's book."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.execution.book import SILENT_S, SPREAD_S, Book
from raytune_ft.execution.entries import Death, Ended, Gone, Report
from raytune_ft.paths import RunDirectory
from raytune_ft.training.lane.orders import Drop, GoOn, Order, Quit, Start
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.spec import TrialSpec

EXPERIMENT = Experiment.model_validate({"name": "e", "base_model": "b", "data": {"train": "t"}})
KILLED = Death("The actor died unexpectedly before finishing this task.")
DONE = Outcome(OutcomeKind.completed, "ran all 30 steps", 30, 0.3, 9.0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Lane:
    """A lane's side of the book."""

    def __init__(self, book: Book, number: int, room: int = 1) -> None:
        self.book, self.number, self.starts = book, number, 0
        self.session = book.hello(number)
        book.ready(number, self.session)
        self.free(room)

    def free(self, room: int) -> None:
        self.book.credit(self.number, self.session, self.starts + room)

    def hears(self) -> list[Order]:
        self.book.heard(self.number, self.session)
        orders = self.book.orders(self.number, self.session)
        self.starts += sum(isinstance(order, Start) for order in orders)
        return orders

    def starts_now(self) -> list[str]:
        return [order.spec.trial_id for order in self.hears() if isinstance(order, Start)]

    def reports(self, trial: str, step: int = 10, **more: Any) -> None:
        self.book.report(self.number, self.session, trial, {"step": step, "eval_loss": 0.5, "seconds": 2.0, **more})

    def ends(self, trial: str, room: int = 1) -> None:
        self.book.ended(self.number, self.session, trial, DONE)
        self.free(room)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock):
    def make_book(lanes: int = 1, max_failures: int = 2) -> Book:
        return Book(lanes, max_failures, clock)

    return make_book


def start(trial: str) -> Start:
    return Start(TrialSpec.of(trial, {}, EXPERIMENT, RunDirectory(Path("runs/e"))))


def submit(book: Book, *trials: str) -> None:
    for trial in trials:
        book.submit(start(trial), f"proxy of {trial}")


def test_a_trial_goes_from_its_proxy_to_a_lane_and_its_events_go_back(make) -> None:
    book = make()
    submit(book, "0000")
    assert book.event("0000") is None
    lane = Lane(book, 0)
    assert lane.hears() == [start("0000")] and lane.hears() == []
    lane.reports("0000", step=10)
    report = book.event("0000")
    assert isinstance(report, Report) and report.metrics["step"] == 10
    assert lane.hears() == []  # until somebody decides
    book.go_on("0000")
    assert lane.hears() == [GoOn("0000")] and book.event("0000") is None
    lane.ends("0000")
    assert book.event("0000") == Ended(DONE)
    book.drop("0000")
    assert book.event("0000") == Gone() and lane.hears() == []


def test_a_last_report_and_the_end_that_follows_it_are_told_one_after_the_other(make) -> None:
    book = make()
    submit(book, "0000")
    lane = Lane(book, 0)
    lane.hears()
    lane.reports("0000", step=30)
    lane.ends("0000")
    assert isinstance(book.event("0000"), Report)
    book.go_on("0000")
    assert book.event("0000") == Ended(DONE) and lane.hears() == []


def test_a_trial_that_the_scheduler_stops_is_dropped_and_its_room_goes_to_the_next(make) -> None:
    book = make()
    submit(book, "0000", "0001")
    lane = Lane(book, 0)
    lane.hears()
    lane.reports("0000")
    book.drop("0000")
    assert lane.hears() == [Drop("0000")]
    lane.free(1)
    assert lane.hears() == [start("0001")]
    lane.reports("0000", step=20)  # said before it heard of the drop
    assert not book.knows("0000")


def test_a_lane_is_never_given_more_than_it_asked_for(make) -> None:
    book = make()
    lane = Lane(book, 0, room=2)
    submit(book, "0000", "0001", "0002")
    assert book.orders(0, lane.session) == [start("0000"), start("0001")]
    lane.free(2)  # said before those came
    assert lane.hears() == []
    lane.starts = 2
    lane.free(0)
    assert lane.hears() == []
    lane.free(1)
    assert lane.hears() == [start("0002")]


def test_trials_spread_over_lanes_before_two_share_one(make) -> None:
    book = make(lanes=2)
    lanes = [Lane(book, 0, room=4), Lane(book, 1, room=2)]
    submit(book, "0000", "0001", "0002", "0003", "0004", "0005", "0006")
    assert lanes[0].starts_now() == ["0000", "0002", "0004", "0005"]
    assert lanes[1].starts_now() == ["0001", "0003"]


def test_a_lane_that_still_starts_is_waited_for_a_while_before_trials_share(make, clock: Clock) -> None:
    book = make(lanes=2)
    submit(book, "0000", "0001", "0002")
    first = Lane(book, 0, room=4)
    assert first.starts_now() == ["0000"]
    second = Lane(book, 1, room=4)
    assert second.starts_now() == ["0001"] and first.starts_now() == ["0002"]

    alone = make(lanes=2)
    submit(alone, "0000", "0001")
    only = Lane(alone, 0, room=4)
    assert only.starts_now() == ["0000"]
    clock.now += SPREAD_S
    alone.lose_silent()
    assert only.starts_now() == ["0001"]


def test_a_proxy_that_died_attaches_to_its_trial_and_the_dead_one_can_not_drop_it(make) -> None:
    book = make()
    submit(book, "0000")
    lane = Lane(book, 0)
    lane.hears()
    lane.reports("0000")
    book.submit(start("0000"), "second proxy")
    assert isinstance(book.event("0000"), Report)  # the first may have taken it with it
    book.drop("0000", "proxy of 0000")
    assert book.knows("0000")
    book.drop("0000", "second proxy")
    assert not book.knows("0000") and lane.hears() == [Drop("0000")]


def test_a_trial_paused_at_a_report_goes_on_from_there_without_a_second_decision(make) -> None:
    book = make()
    submit(book, "0000", "0001")
    lane = Lane(book, 0)
    lane.hears()
    lane.reports("0000", step=10)
    book.drop("0000", "proxy of 0000")
    assert lane.hears() == [Drop("0000")]
    lane.free(1)
    assert lane.starts_now() == ["0001"]
    book.submit(start("0000"), "again", decided=10)
    lane.ends("0001")
    assert lane.starts_now() == ["0000"]
    lane.reports("0000", step=10)  # restored from its checkpoint
    assert lane.hears() == [GoOn("0000")] and book.event("0000") is None
    lane.reports("0000", step=20)
    assert isinstance(book.event("0000"), Report)


def test_trials_of_a_lane_that_fell_come_first_and_are_told_nothing_twice(make) -> None:
    book = make()
    submit(book, "0000", "0001")
    lane = Lane(book, 0)
    lane.hears()
    lane.reports("0000", step=10)
    book.go_on("0000")
    assert book.fell(0, KILLED)
    again = Lane(book, 0)
    assert again.starts_now() == ["0000"]
    again.reports("0000", step=10)
    assert again.hears() == [GoOn("0000")] and book.event("0000") is None
    lane.reports("0000", step=20)  # of the session that is no more
    assert book.event("0000") is None
    assert lane.book.orders(0, lane.session) == [Quit()]


def test_a_trial_that_waits_for_a_decision_is_trained_again_only_after_it(make) -> None:
    book = make()
    submit(book, "0000")
    lane = Lane(book, 0)
    lane.hears()
    lane.reports("0000", step=10)
    book.fell(0, KILLED)
    again = Lane(book, 0)
    assert again.hears() == []
    book.go_on("0000")
    assert again.starts_now() == ["0000"]


def test_another_lane_with_room_takes_the_trials_of_one_that_fell(make) -> None:
    book = make(lanes=2)
    lanes = [Lane(book, 0), Lane(book, 1)]
    submit(book, "0000", "0001", "0002")
    assert [lane.starts_now() for lane in lanes] == [["0000"], ["0001"]]
    book.fell(0, KILLED)
    lanes[1].ends("0001")
    assert lanes[1].starts_now() == ["0000"]  # before 0002, which waited already
    assert Lane(book, 0).starts_now() == ["0002"]


def test_a_trial_whose_workers_die_too_often_ends_with_the_reason_and_its_last_value(make) -> None:
    book = make(max_failures=1)
    submit(book, "0000", "0001")
    lane = Lane(book, 0)
    lane.hears()
    lane.reports("0000", step=10)
    book.go_on("0000")
    assert book.fell(0, KILLED) and Lane(book, 0).starts_now() == ["0000"]
    assert book.fell(0, KILLED)
    event = book.event("0000")
    assert isinstance(event, Ended)
    assert event.outcome == Outcome(
        OutcomeKind.failed,
        "its workers died 2 time(s), resources.max_failures 1 allows no more; " + KILLED.reason,
        10,
        0.5,
        2.0,
    )
    assert Lane(book, 0).starts_now() == ["0001"]  # which was not on it, and is not charged


def test_fault_11_a_trial_that_alone_took_a_node_out_of_memory_is_not_tried_again(make) -> None:
    book, memory = make(max_failures=3), Death("the node ran out of memory", OutcomeKind.out_of_memory)
    submit(book, "0000", "0001")
    Lane(book, 0).hears()
    assert book.fell(0, memory)
    event = book.event("0000")
    assert isinstance(event, Ended)
    assert (event.outcome.kind, event.outcome.reason) == (OutcomeKind.out_of_memory, memory.reason)
    assert Lane(book, 0).starts_now() == ["0001"]


def test_fault_11_of_trials_that_shared_the_memory_each_is_tried_alone(make) -> None:
    book, memory = make(max_failures=3), Death("the node ran out of memory", OutcomeKind.out_of_memory)
    submit(book, "0000", "0001")
    Lane(book, 0, room=2).hears()
    assert book.fell(0, memory)
    assert book.event("0000") is None and book.event("0001") is None
    assert Lane(book, 0, room=2).starts_now() == ["0000"]


def test_a_start_that_the_lane_never_heard_of_is_not_charged_with_its_death(make) -> None:
    book = make(max_failures=0)
    Lane(book, 0)
    submit(book, "0000")
    assert book.fell(0, KILLED)
    assert book.event("0000") is None and Lane(book, 0).starts_now() == ["0000"]


def test_a_preempted_node_is_charged_to_no_trial(make) -> None:
    book = make(max_failures=0)
    submit(book, "0000")
    Lane(book, 0).hears()
    assert book.fell(0, Death("its node was preempted", charged=False))
    assert book.event("0000") is None and Lane(book, 0).starts_now() == ["0000"]


def test_trials_whose_lane_died_train_alone_until_one_of_them_is_known_to_be_harmless(make) -> None:
    book = make()
    lane = Lane(book, 0, room=2)
    submit(book, "0000", "0001", "0002")
    assert lane.starts_now() == ["0000", "0001"]
    book.fell(0, KILLED)
    again = Lane(book, 0, room=2)
    assert again.starts_now() == ["0000"]
    again.reports("0000")
    book.go_on("0000")
    assert again.hears() == [GoOn("0000")]  # 0001 is still suspected, and waits for a lane of its own
    again.ends("0000", room=2)
    assert again.starts_now() == ["0001"]
    again.reports("0001")
    assert again.starts_now() == ["0002"]


def test_a_lane_that_is_not_heard_loses_its_trials_and_is_an_empty_lane_when_it_comes_back(make, clock: Clock) -> None:
    book = make(lanes=2)
    lanes = [Lane(book, 0), Lane(book, 1)]
    submit(book, "0000", "0001")
    assert [lane.starts_now() for lane in lanes] == [["0000"], ["0001"]]
    clock.now += SILENT_S - 1
    lanes[1].hears()
    clock.now += 2
    book.lose_silent()
    lanes[1].ends("0001")
    assert lanes[1].starts_now() == ["0000"]
    lanes[0].reports("0000", step=5)  # it does not know yet
    assert book.event("0000") is None
    assert lanes[0].hears() == [Drop("0000")]
    lanes[0].free(1)
    submit(book, "0002")
    assert lanes[0].starts_now() == ["0002"]


def test_lanes_keep_their_trials_where_everything_stood_still(make, clock) -> None:
    book = make()
    submit(book, "0000")
    lane = Lane(book, 0)
    assert lane.starts_now() == ["0000"]
    clock.now += 10 * SILENT_S
    book.lose_silent(10 * SILENT_S)
    assert book.keeps(0, lane.session)
    clock.now += SILENT_S + 1
    book.lose_silent()
    assert not book.keeps(0, lane.session)  # given away: it must not write
    lane.hears()
    book.hello(0)
    assert not book.keeps(0, lane.session)  # of an earlier session


def test_lanes_that_never_get_ready_end_every_trial_with_the_last_error(make) -> None:
    book = make(lanes=2, max_failures=1)
    submit(book, "0000")
    broken = Death("ImportError: no module named nothing")
    assert book.fell(0, broken) and book.fell(1, broken)
    book.hello(0)
    assert not book.fell(0, broken)
    assert book.event("0000") is None  # the other lane may still come
    assert not book.fell(1, broken)
    event = book.event("0000")
    assert isinstance(event, Ended) and event.outcome.kind is OutcomeKind.failed
    assert event.outcome.reason == "no lane could be kept running; ImportError: no module named nothing"
    submit(book, "0001")
    assert isinstance(book.event("0001"), Ended)


def test_a_lane_that_was_ready_in_between_may_fail_again(make) -> None:
    book = make(max_failures=1)
    for _ in range(5):
        assert book.fell(0, KILLED)  # before it was ready
        Lane(book, 0)
        assert book.fell(0, KILLED)


def test_without_the_host_no_lane_comes_back(make) -> None:
    book = make()
    submit(book, "0000")
    lane = Lane(book, 0)
    lane.hears()
    assert not book.fell(0, Death("the lanes' host ended"), for_good=True)
    assert isinstance(book.event("0000"), Ended)


def test_at_the_end_lanes_quit_and_proxies_hear_that_nothing_comes(make) -> None:
    book = make(lanes=2)
    lane = Lane(book, 0)
    submit(book, "0000", "0001")
    lane.hears()
    book.close()
    assert lane.hears() == [Quit()]
    assert book.event("0000") == Gone() == book.event("0001")
    late = book.hello(1)
    assert book.orders(1, late) == [Quit()]
    assert not book.fell(0, KILLED)
