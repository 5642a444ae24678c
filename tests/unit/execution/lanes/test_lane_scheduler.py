"""Who trains what: each turn of the dispatcher's scheduler."""

from __future__ import annotations

from raytune_ft.execution.lanes.assignment import SPREAD_S
from raytune_ft.execution.lanes.entries import TrialEnded, TrialGone, TrialReport
from raytune_ft.training.lane.orders import Drop, GoOn
from raytune_ft.training.outcome import Outcome, OutcomeKind

DONE = Outcome(OutcomeKind.completed, "ran all 30 steps", 30, 0.3, 9.0)


def test_a_trial_goes_from_its_proxy_to_a_lane_and_its_events_go_back(make, attach, start, submit) -> None:
    scheduler = make()
    submit(scheduler, "0000")
    assert scheduler.event("0000") is None
    lane = attach(scheduler, 0)
    assert lane.hears() == [start("0000")] and lane.hears() == []
    lane.reports("0000", step=10)
    report = scheduler.event("0000")
    assert isinstance(report, TrialReport) and report.metrics["step"] == 10
    assert lane.hears() == []  # until somebody decides
    scheduler.go_on("0000")
    assert lane.hears() == [GoOn("0000")] and scheduler.event("0000") is None
    lane.ends("0000")
    assert scheduler.event("0000") == TrialEnded(DONE)
    scheduler.drop("0000")
    assert scheduler.event("0000") == TrialGone() and lane.hears() == []


def test_a_last_report_and_the_end_that_follows_it_are_told_one_after_the_other(make, attach, submit) -> None:
    scheduler = make()
    submit(scheduler, "0000")
    lane = attach(scheduler, 0)
    lane.hears()
    lane.reports("0000", step=30)
    lane.ends("0000")
    assert isinstance(scheduler.event("0000"), TrialReport)
    scheduler.go_on("0000")
    assert scheduler.event("0000") == TrialEnded(DONE) and lane.hears() == []


def test_a_trial_that_the_scheduler_stops_is_dropped_and_its_room_goes_to_the_next(make, attach, start, submit) -> None:
    scheduler = make()
    submit(scheduler, "0000", "0001")
    lane = attach(scheduler, 0)
    lane.hears()
    lane.reports("0000")
    scheduler.drop("0000")
    assert lane.hears() == [Drop("0000")]
    lane.free(1)
    assert lane.hears() == [start("0001")]
    lane.reports("0000", step=20)  # said before it heard of the drop
    assert not scheduler.knows("0000")


def test_a_lane_is_never_given_more_than_it_asked_for(make, attach, start, submit) -> None:
    scheduler = make()
    lane = attach(scheduler, 0, room=2)
    submit(scheduler, "0000", "0001", "0002")
    assert scheduler.orders(0, lane.session) == [start("0000"), start("0001")]
    lane.free(2)  # said before those came
    assert lane.hears() == []
    lane.starts = 2
    lane.free(0)
    assert lane.hears() == []
    lane.free(1)
    assert lane.hears() == [start("0002")]


def test_trials_spread_over_lanes_before_two_share_one(make, attach, submit) -> None:
    scheduler = make(lanes=2)
    lanes = [attach(scheduler, 0, room=4), attach(scheduler, 1, room=2)]
    submit(scheduler, "0000", "0001", "0002", "0003", "0004", "0005", "0006")
    assert lanes[0].starts_now() == ["0000", "0002", "0004", "0005"]
    assert lanes[1].starts_now() == ["0001", "0003"]


def test_a_lane_that_still_starts_is_waited_for_a_while_before_trials_share(make, clock, attach, submit) -> None:
    scheduler = make(lanes=2)
    submit(scheduler, "0000", "0001", "0002")
    first = attach(scheduler, 0, room=4)
    assert first.starts_now() == ["0000"]
    second = attach(scheduler, 1, room=4)
    assert second.starts_now() == ["0001"] and first.starts_now() == ["0002"]

    alone = make(lanes=2)
    submit(alone, "0000", "0001")
    only = attach(alone, 0, room=4)
    assert only.starts_now() == ["0000"]
    clock.now += SPREAD_S
    alone.lose_silent()
    assert only.starts_now() == ["0001"]


def test_a_proxy_that_died_attaches_to_its_trial_and_the_dead_one_can_not_drop_it(make, attach, start, submit) -> None:
    scheduler = make()
    submit(scheduler, "0000")
    lane = attach(scheduler, 0)
    lane.hears()
    lane.reports("0000")
    scheduler.submit(start("0000"), "second proxy")
    assert isinstance(scheduler.event("0000"), TrialReport)  # the first may have taken it with it
    scheduler.drop("0000", "proxy of 0000")
    assert scheduler.knows("0000")
    scheduler.drop("0000", "second proxy")
    assert not scheduler.knows("0000") and lane.hears() == [Drop("0000")]


def test_a_trial_paused_at_a_report_goes_on_from_there_without_a_second_decision(make, attach, start, submit) -> None:
    scheduler = make()
    submit(scheduler, "0000", "0001")
    lane = attach(scheduler, 0)
    lane.hears()
    lane.reports("0000", step=10)
    scheduler.drop("0000", "proxy of 0000")
    assert lane.hears() == [Drop("0000")]
    lane.free(1)
    assert lane.starts_now() == ["0001"]
    scheduler.submit(start("0000"), "again", decided=10)
    lane.ends("0001")
    assert lane.starts_now() == ["0000"]
    lane.reports("0000", step=10)  # restored from its checkpoint
    assert lane.hears() == [GoOn("0000")] and scheduler.event("0000") is None
    lane.reports("0000", step=20)
    assert isinstance(scheduler.event("0000"), TrialReport)
