"""What follows when a lane's workers are no more, decided from a few values."""

from __future__ import annotations

from typing import Any

from raytune_ft.execution.lanes.recovery.retries import (
    LAST_START_S,
    LONGEST_PAUSE_S,
    Again,
    Fall,
    GiveUp,
    after_fall,
    span,
)

HOUR = 3600.0


def decided(*, max_failures: int = 2, outage_timeout_s: float = HOUR, **values: Any) -> Again | GiveUp:
    return after_fall(Fall(**values), max_failures, outage_timeout_s)


def test_a_lane_that_was_of_use_starts_again_at_once() -> None:
    assert decided() == Again(0.0)


def test_one_that_does_not_get_ready_is_tried_after_growing_pauses_up_to_some_minutes() -> None:
    pauses = [decided(starts_without_use=n) for n in (1, 2, 3, 8, 9, 10, 11, 100, 10_000)]
    assert pauses == [Again(each) for each in (1, 2, 4, 128, 256, *[LONGEST_PAUSE_S] * 4)]
    assert 60 <= LONGEST_PAUSE_S <= 600


def test_the_same_error_again_and_again_before_any_lane_was_ready_ends_the_study_after_few_starts() -> None:
    new: dict[str, Any] = {"ever_ready": False}
    assert decided(starts_without_use=2, errors=2, **new) == Again(2.0)
    assert isinstance(decided(starts_without_use=3, errors=3, **new), GiveUp)
    assert isinstance(decided(starts_without_use=1, errors=1, max_failures=0, **new), GiveUp)
    assert decided(starts_without_use=3, errors=1, **new) == Again(4.0)  # it was another one before
    assert decided(starts_without_use=3, errors=3, others_may_come=True, **new) == Again(4.0)
    assert decided(starts_without_use=3, errors=3, ever_ready=True) == Again(4.0)


def test_whatever_may_be_an_outage_is_waited_for_before_and_after_a_lane_was_ready() -> None:
    for ever_ready in (False, True):
        waited = decided(starts_without_use=50, ever_ready=ever_ready, unready_s=1800.0)
        assert waited == Again(LONGEST_PAUSE_S)


def test_the_wait_ends_with_one_more_start_and_a_while_later_where_others_may_come() -> None:
    assert decided(starts_without_use=20, unready_s=HOUR - 7.0) == Again(7.0)
    assert decided(starts_without_use=21, unready_s=HOUR) == GiveUp("no lane has been ready for 60 min")
    assert decided(starts_without_use=21, unready_s=HOUR, was_ready=True) == GiveUp(
        "no lane has stayed ready for 60 min"
    )
    assert decided(starts_without_use=21, errors=9, unready_s=HOUR) == GiveUp("no lane has been ready for 60 min")
    assert decided(starts_without_use=21, unready_s=HOUR, others_may_come=True) == Again(LONGEST_PAUSE_S)
    late = HOUR + LAST_START_S
    assert isinstance(decided(starts_without_use=21, unready_s=late, others_may_come=True), GiveUp)


def test_spans_are_told_in_seconds_or_minutes() -> None:
    assert [span(each) for each in (0.4, 45, 119, 120, 1800)] == ["0 s", "45 s", "119 s", "2 min", "30 min"]
