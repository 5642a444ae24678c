"""An outage of all lanes (fault 35): trials wait for it, and a study that has to end leaves them open."""

from __future__ import annotations

import pytest

from raytune_ft.execution.lanes.entries import Cause, Death, LanesNow, TrialEnded, TrialGone
from raytune_ft.execution.lanes.lane_scheduler import SILENT_S
from raytune_ft.execution.lanes.recovery.lost_lanes import LINE_S, STEADY_S
from raytune_ft.execution.lanes.recovery.retries import LAST_START_S
from raytune_ft.training.lane.orders import Quit
from raytune_ft.training.outcome import OutcomeKind

KILLED = Death("The actor died unexpectedly before finishing this task.")
NO_ROOM = Death("The worker group startup timed out", cause=Cause.lost)
PREEMPTED = Death("its node was preempted", cause=Cause.preempted)
BROKEN = Death("ImportError: no module named nothing", cause=Cause.raised)


@pytest.mark.parametrize("death", [KILLED, NO_ROOM])
def test_fault_35_an_outage_of_all_lanes_ends_no_trial_and_they_train_when_it_is_over(
    make, clock, attach, submit, death: Death
) -> None:
    scheduler = make(lanes=2, max_failures=2)
    names = [f"{number:04d}" for number in range(1000)]
    submit(scheduler, *names[:500])
    lanes = [attach(scheduler, 0), attach(scheduler, 1)]
    assert [lane.starts_now() for lane in lanes] == [["0000"], ["0001"]]
    for lane in (0, 1):
        assert scheduler.fell(lane, death) == 0.0
    pauses = []
    for _ in range(12):
        for lane in (0, 1):
            pause = scheduler.fell(lane, death)
            assert pause is not None
            pauses.append(pause)
        clock.now += pauses[-1]
        scheduler.lose_silent()
    submit(scheduler, *names[500:])
    assert pauses == sorted(pauses) and pauses[-1] == 300.0
    assert clock.now > 1200.0 + 100.0
    assert [name for name in names if scheduler.event(name) is not None] == []
    assert scheduler.now() == LanesNow(None, frozenset({0, 1})) and scheduler.room(4) == 0
    assert attach(scheduler, 1).starts_now() == ["0001"]
    assert scheduler.fell(0, death) == 300.0 and scheduler.given_up is None  # the other one is well


def test_a_study_without_lanes_for_too_long_ends_and_its_trials_stay_open(make, clock, attach, submit) -> None:
    scheduler = make(lanes=2, outage_timeout_s=600.0)
    submit(scheduler, "0000", "0001")
    attach(scheduler, 0)
    began = clock.now
    assert scheduler.fell(0, KILLED) == 0.0 and scheduler.fell(1, NO_ROOM) == 1.0
    while (pause := scheduler.fell(0, NO_ROOM)) is not None:
        clock.now += pause
        scheduler.lose_silent()
    assert clock.now - began == pytest.approx(600.0)
    assert scheduler.given_up == "no lane has been ready for 10 min (The worker group startup timed out)"
    assert scheduler.event("0000") is None and scheduler.event("0001") is None and scheduler.over
    assert scheduler.fell(1, NO_ROOM) is None
    late = scheduler.hello(1)
    assert scheduler.orders(1, late) == [Quit()]
    scheduler.close()
    assert scheduler.event("0000") == TrialGone() == scheduler.event("0001")


def test_time_in_which_everything_stood_still_is_no_outage(make, clock) -> None:
    scheduler = make(outage_timeout_s=600.0)
    clock.now += 10_000.0
    scheduler.lose_silent(10_000.0)
    assert scheduler.fell(0, NO_ROOM) == 1.0 and scheduler.given_up is None


def test_lanes_whose_workers_all_raise_the_same_error_end_the_study_after_few_starts(make, submit) -> None:
    scheduler = make(lanes=2, max_failures=1)
    submit(scheduler, "0000")
    assert scheduler.fell(0, BROKEN) == 1.0
    assert scheduler.fell(0, BROKEN) == 2.0  # the other one has yet to start, and may do better
    scheduler.hello(1)
    assert scheduler.fell(0, BROKEN) == 4.0
    assert scheduler.fell(1, BROKEN) == 1.0
    scheduler.hello(0)
    assert scheduler.fell(1, BROKEN) is None
    why = "no lane can be started, 2 time(s) with the same error (ImportError: no module named nothing)"
    assert scheduler.given_up == why
    assert scheduler.event("0000") is None


def test_memory_that_the_base_alone_takes_is_such_an_error(make) -> None:
    scheduler = make(max_failures=0)
    assert scheduler.fell(0, Death("the node ran out of memory", OutcomeKind.out_of_memory, Cause.raised)) is None


def test_other_errors_and_those_of_a_study_whose_lanes_were_ready_are_waited_for(make, attach) -> None:
    scheduler = make(max_failures=1)
    for number in range(10):
        assert scheduler.fell(0, Death(f"Error{number}: no", cause=Cause.raised)) is not None
    attach(scheduler, 0)
    assert scheduler.fell(0, BROKEN) == 0.0
    for _ in range(10):
        assert scheduler.fell(0, BROKEN) is not None


@pytest.mark.parametrize("of_use", ["for a while", "a report", "a trial's fault"])
def test_a_lane_that_was_of_use_in_between_begins_with_short_pauses(make, clock, attach, submit, of_use: str) -> None:
    scheduler = make(max_failures=100)
    submit(scheduler, "0000")
    for number in range(5):
        assert [scheduler.fell(0, KILLED), scheduler.fell(0, KILLED)] == [1.0, 2.0]
        lane = attach(scheduler, 0)
        if of_use != "for a while":
            assert lane.starts_now() == ["0000"]
        match of_use:
            case "for a while":
                clock.now += STEADY_S
                lane.hears()
            case "a report":
                lane.reports("0000", step=number + 1)
                scheduler.go_on("0000")
                scheduler.fell(0, KILLED)
                continue
            case "a trial's fault":
                pass
        assert scheduler.fell(0, KILLED) == 0.0


@pytest.mark.parametrize("death", [BROKEN, KILLED, NO_ROOM, PREEMPTED])
def test_lanes_that_fall_soon_after_they_were_ready_again_and_again_are_no_lanes(make, clock, attach, death) -> None:
    """They hold no trial, so that none is charged."""
    scheduler = make(lanes=2, outage_timeout_s=1800.0)
    pauses: dict[int, list[float]] = {0: [], 1: []}
    began = clock.now
    while scheduler.given_up is None and clock.now < began + 10_000.0:
        for lane, paused in pauses.items():
            attach(scheduler, lane)
            clock.now += 10.0
            pause = scheduler.fell(lane, death)
            paused += [] if pause is None else [pause]
        clock.now += pauses[0][-1]
        scheduler.lose_silent()
    assert pauses[0][:6] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0] and 1800.0 <= clock.now - began <= 2200.0
    assert scheduler.given_up == f"no lane has stayed ready for {scheduler.given_up[29:31]} min ({death.reason})"


def test_beside_a_lane_that_is_well_one_that_falls_soon_is_tried_ever_less_often(make, clock, attach) -> None:
    scheduler = make(lanes=2, outage_timeout_s=1800.0)
    well = attach(scheduler, 1)
    pauses = []
    for _ in range(50):
        attach(scheduler, 0)
        pauses.append(scheduler.fell(0, BROKEN))
        for _ in range(20):
            clock.now += pauses[-1] / 20
            well.hears()
            scheduler.lose_silent()
    assert pauses[:4] == [0.0, 1.0, 2.0, 4.0] and pauses[-1] == 300.0
    assert scheduler.given_up is None and scheduler.room(4) == 1  # the other one's


def test_a_study_whose_only_lane_stays_silent_ends(make, clock, attach, submit) -> None:
    scheduler = make(outage_timeout_s=600.0)
    submit(scheduler, "0000")
    attach(scheduler, 0).hears()
    began = clock.now
    while scheduler.given_up is None and clock.now < began + 10_000.0:
        clock.now += 1.0
        scheduler.lose_silent()
    assert clock.now - began == pytest.approx(600.0 + SILENT_S, abs=2.0)
    assert (
        scheduler.given_up == "no lane has been ready for 10 min (it is not heard)"
        and scheduler.event("0000") is None
        and scheduler.over
    )


def test_a_lane_that_is_preempted_before_it_is_ready_is_tried_ever_less_often_and_not_for_ever(make, clock) -> None:
    scheduler = make(outage_timeout_s=1800.0)
    pauses = []
    scheduler.hello(0)
    while (pause := scheduler.fell(0, PREEMPTED)) is not None and len(pauses) < 100:
        pauses.append(pause)
        clock.now += pause + 60.0
        scheduler.hello(0)
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0] and 9 <= len(pauses) <= 20
    assert scheduler.given_up is not None and scheduler.given_up.startswith("no lane has been ready for 3")


def test_a_lane_that_loads_for_ever_is_waited_for_a_while_longer_than_the_others(make, clock) -> None:
    scheduler = make(lanes=2, outage_timeout_s=600.0)
    loading = scheduler.hello(1)
    scheduler.fell(0, NO_ROOM)
    began = clock.now
    while scheduler.given_up is None and clock.now < began + 100_000.0:
        clock.now += 20.0
        scheduler.heard(1, loading)
        scheduler.lose_silent()
        if clock.now - began < 1000.0:
            assert scheduler.fell(0, NO_ROOM) is not None
    assert clock.now - began == pytest.approx(600.0 + LAST_START_S, abs=20.0)


def test_workers_that_are_asked_for_and_never_come_or_fall_are_not_waited_for_for_ever(make, clock) -> None:
    scheduler = make(outage_timeout_s=600.0)
    clock.now += 600.0
    scheduler.lose_silent()
    assert scheduler.given_up is None  # the first start of all may take longer
    clock.now += LAST_START_S
    scheduler.lose_silent()
    assert scheduler.given_up == "no lane has been ready for 40 min"


def test_a_trial_that_ends_alone_is_no_word_about_the_lanes(make, attach, submit) -> None:
    scheduler = make(max_failures=0)
    submit(scheduler, "0000", "0001")
    attach(scheduler, 0).hears()
    scheduler.fell(0, KILLED)
    assert (
        isinstance(scheduler.event("0000"), TrialEnded) and scheduler.event("0001") is None and scheduler.line() is None
    )


def test_the_user_hears_now_and_then_of_lost_lanes_when_they_are_tried_next_and_when_they_are_back(
    make, clock, attach
) -> None:
    scheduler = make(lanes=2)
    lanes = [attach(scheduler, 0), attach(scheduler, 1)]
    assert scheduler.line() is None
    scheduler.fell(0, NO_ROOM)
    assert scheduler.line() is None  # it starts again at once
    for _ in range(8):
        scheduler.fell(0, NO_ROOM)
    assert scheduler.line() == "1 of 2 lane(s) is lost (The worker group startup timed out); tried again in 2 min"
    assert scheduler.line() is None
    lanes[1].hears()
    clock.now += LINE_S
    lanes[1].hears()
    assert scheduler.line() == "1 of 2 lane(s) is lost (The worker group startup timed out); tried again in 68 s"
    clock.now += SILENT_S + 61.0
    scheduler.lose_silent()
    scheduler.hello(0)
    assert scheduler.line() == (
        "2 of 2 lane(s) are lost (The worker group startup timed out); being tried again, for another 60 min "
        "(resources.outage_timeout_s); trials wait"
    )
    lanes[1].hears()
    attach(scheduler, 0)
    assert scheduler.line() == "no lane is lost any more" and scheduler.line() is None
