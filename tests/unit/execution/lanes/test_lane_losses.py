"""Who trains what when lanes fall, fall silent, or never come."""

from __future__ import annotations

from raytune_ft.execution.lanes.entries import Cause, Death, TrialEnded, TrialGone
from raytune_ft.execution.lanes.lane_scheduler import SILENT_S
from raytune_ft.execution.lanes.recovery.charges import FREE_LOSSES, charged
from raytune_ft.execution.lanes.recovery.lost_lanes import STEADY_S
from raytune_ft.training.lane.orders import Drop, GoOn, Quit
from raytune_ft.training.outcome import Outcome, OutcomeKind

KILLED = Death("The actor died unexpectedly before finishing this task.")


def test_trials_of_a_lane_that_fell_come_first_and_are_told_nothing_twice(make, attach, submit) -> None:
    scheduler = make()
    submit(scheduler, "0000", "0001")
    lane = attach(scheduler, 0)
    lane.hears()
    lane.reports("0000", step=10)
    scheduler.go_on("0000")
    assert scheduler.fell(0, KILLED) == 0.0
    again = attach(scheduler, 0)
    assert again.starts_now() == ["0000"]
    again.reports("0000", step=10)
    assert again.hears() == [GoOn("0000")] and scheduler.event("0000") is None
    lane.reports("0000", step=20)  # of the session that is no more
    assert scheduler.event("0000") is None
    assert lane.scheduler.orders(0, lane.session) == [Quit()]


def test_a_trial_that_waits_for_a_decision_is_trained_again_only_after_it(make, attach, submit) -> None:
    scheduler = make()
    submit(scheduler, "0000")
    lane = attach(scheduler, 0)
    lane.hears()
    lane.reports("0000", step=10)
    scheduler.fell(0, KILLED)
    again = attach(scheduler, 0)
    assert again.hears() == []
    scheduler.go_on("0000")
    assert again.starts_now() == ["0000"]


def test_another_lane_with_room_takes_the_trials_of_one_that_fell(make, attach, submit) -> None:
    scheduler = make(lanes=2)
    lanes = [attach(scheduler, 0), attach(scheduler, 1)]
    submit(scheduler, "0000", "0001", "0002")
    assert [lane.starts_now() for lane in lanes] == [["0000"], ["0001"]]
    scheduler.fell(0, KILLED)
    lanes[1].ends("0001")
    assert lanes[1].starts_now() == ["0000"]  # before 0002, which waited already
    assert attach(scheduler, 0).starts_now() == ["0002"]


def test_a_trial_whose_workers_die_too_often_ends_with_the_reason_and_its_last_value(make, attach, submit) -> None:
    scheduler = make(max_failures=1)
    submit(scheduler, "0000", "0001")
    lane = attach(scheduler, 0)
    lane.hears()
    lane.reports("0000", step=10)
    scheduler.go_on("0000")
    assert scheduler.fell(0, KILLED) == 0.0 and attach(scheduler, 0).starts_now() == ["0000"]
    assert scheduler.fell(0, KILLED) == 0.0
    event = scheduler.event("0000")
    assert isinstance(event, TrialEnded)
    assert event.outcome == Outcome(
        OutcomeKind.failed,
        "its workers died 2 time(s), resources.max_failures 1 allows no more; " + KILLED.reason,
        10,
        0.5,
        2.0,
    )
    assert attach(scheduler, 0).starts_now() == ["0001"]  # which was not on it, and is not charged


def test_fault_11_a_trial_that_alone_took_a_node_out_of_memory_is_not_tried_again(make, attach, submit) -> None:
    scheduler, memory = (
        make(max_failures=3),
        Death("the node ran out of memory", OutcomeKind.out_of_memory, Cause.raised),
    )
    submit(scheduler, "0000", "0001")
    attach(scheduler, 0).hears()
    assert scheduler.fell(0, memory) == 0.0
    event = scheduler.event("0000")
    assert isinstance(event, TrialEnded)
    assert (event.outcome.kind, event.outcome.reason) == (OutcomeKind.out_of_memory, memory.reason)
    assert attach(scheduler, 0).starts_now() == ["0001"]


def test_fault_11_of_trials_that_shared_the_memory_each_is_tried_alone(make, attach, submit) -> None:
    scheduler, memory = (
        make(max_failures=3),
        Death("the node ran out of memory", OutcomeKind.out_of_memory, Cause.raised),
    )
    submit(scheduler, "0000", "0001")
    attach(scheduler, 0, room=2).hears()
    assert scheduler.fell(0, memory) == 0.0
    assert scheduler.event("0000") is None and scheduler.event("0001") is None
    assert attach(scheduler, 0, room=2).starts_now() == ["0000"]


def test_a_start_that_the_lane_never_heard_of_is_not_charged_with_its_death(make, attach, submit) -> None:
    scheduler = make(max_failures=0)
    attach(scheduler, 0)
    submit(scheduler, "0000")
    assert scheduler.fell(0, KILLED) == 0.0
    assert scheduler.event("0000") is None and attach(scheduler, 0).starts_now() == ["0000"]


def test_fault_36_a_preempted_node_is_charged_to_no_trial_and_no_lane(make, clock, attach, submit) -> None:
    scheduler = make(max_failures=0)
    submit(scheduler, "0000")
    for _ in range(20):
        lane = attach(scheduler, 0)
        assert lane.starts_now() == ["0000"]
        clock.now += STEADY_S
        lane.hears()
        assert scheduler.fell(0, Death("its node was preempted", cause=Cause.preempted)) == 0.0
        scheduler.hello(0)
        assert scheduler.fell(0, Death("its node was preempted", cause=Cause.preempted)) == 1.0  # while it started
    attach(scheduler, 0)
    assert scheduler.event("0000") is None and scheduler.line() is None


def test_a_trial_is_charged_with_lost_nodes_only_where_it_gets_nowhere_between_them(make, attach, submit) -> None:
    scheduler, gone = make(max_failures=0), Death("its node has died", cause=Cause.lost)
    submit(scheduler, "0000")
    for step in range(1, 11):
        lane = attach(scheduler, 0)
        assert lane.starts_now() == ["0000"]
        lane.reports("0000", step)
        scheduler.go_on("0000")
        scheduler.fell(0, gone)
    for _ in range(FREE_LOSSES - 1):  # one was lost since the last report
        assert attach(scheduler, 0).starts_now() == ["0000"]
        scheduler.fell(0, gone)
    assert scheduler.event("0000") is None
    assert attach(scheduler, 0).starts_now() == ["0000"]
    scheduler.fell(0, gone)
    event = scheduler.event("0000")
    assert isinstance(event, TrialEnded) and event.outcome.step == 10 and event.outcome.reason.endswith(gone.reason)


def test_a_trial_has_to_do_with_what_its_workers_raise_and_not_with_what_happens_to_them() -> None:
    assert [charged(cause, 1) for cause in (Cause.raised, Cause.died, Cause.lost, Cause.preempted)] == [
        True,
        True,
        False,
        False,
    ]
    assert charged(Cause.lost, 100) and not charged(Cause.preempted, 100)


def test_a_lane_that_fell_silent_costs_its_trial_no_restart(make, clock, attach, submit) -> None:
    scheduler = make(max_failures=0)
    submit(scheduler, "0000")
    assert attach(scheduler, 0).starts_now() == ["0000"]
    clock.now += SILENT_S + 1
    scheduler.lose_silent()
    assert scheduler.event("0000") is None and attach(scheduler, 0).starts_now() == ["0000"]


def test_trials_whose_lane_died_train_alone_until_one_of_them_is_known_to_be_harmless(make, attach, submit) -> None:
    scheduler = make()
    lane = attach(scheduler, 0, room=2)
    submit(scheduler, "0000", "0001", "0002")
    assert lane.starts_now() == ["0000", "0001"]
    scheduler.fell(0, KILLED)
    again = attach(scheduler, 0, room=2)
    assert again.starts_now() == ["0000"]
    again.reports("0000")
    scheduler.go_on("0000")
    assert again.hears() == [GoOn("0000")]  # 0001 is still suspected, and waits for a lane of its own
    again.ends("0000", room=2)
    assert again.starts_now() == ["0001"]
    again.reports("0001")
    assert again.starts_now() == ["0002"]


def test_a_lane_that_is_not_heard_loses_its_trials_and_is_an_empty_lane_when_it_comes_back(
    make, clock, attach, submit
) -> None:
    scheduler = make(lanes=2)
    lanes = [attach(scheduler, 0), attach(scheduler, 1)]
    submit(scheduler, "0000", "0001")
    assert [lane.starts_now() for lane in lanes] == [["0000"], ["0001"]]
    clock.now += SILENT_S - 1
    lanes[1].hears()
    clock.now += 2
    scheduler.lose_silent()
    lanes[1].ends("0001")
    assert lanes[1].starts_now() == ["0000"]
    lanes[0].reports("0000", step=5)  # it does not know yet
    assert scheduler.event("0000") is None
    assert lanes[0].hears() == [Drop("0000")]
    lanes[0].free(1)
    submit(scheduler, "0002")
    assert lanes[0].starts_now() == ["0002"]


def test_lanes_keep_their_trials_where_everything_stood_still(make, clock, attach, submit) -> None:
    scheduler = make()
    submit(scheduler, "0000")
    lane = attach(scheduler, 0)
    assert lane.starts_now() == ["0000"]
    clock.now += 10 * SILENT_S
    scheduler.lose_silent(10 * SILENT_S)
    assert scheduler.keeps(0, lane.session)
    clock.now += SILENT_S + 1
    scheduler.lose_silent()
    assert not scheduler.keeps(0, lane.session)  # given away: it must not write
    lane.hears()
    scheduler.hello(0)
    assert not scheduler.keeps(0, lane.session)  # of an earlier session


def test_at_the_end_lanes_quit_and_proxies_hear_that_nothing_comes(make, attach, submit) -> None:
    scheduler = make(lanes=2)
    lane = attach(scheduler, 0)
    submit(scheduler, "0000", "0001")
    lane.hears()
    scheduler.close()
    assert lane.hears() == [Quit()]
    assert scheduler.event("0000") == TrialGone() == scheduler.event("0001")
    late = scheduler.hello(1)
    assert scheduler.orders(1, late) == [Quit()]
    assert scheduler.fell(0, KILLED) is None
