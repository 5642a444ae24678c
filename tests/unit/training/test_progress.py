"""What a trial says between two reports."""

from __future__ import annotations

from pathlib import Path

from raytune_ft.reporting.progress_words import progress_words
from raytune_ft.training.progress import Phase, ProgressWriter, TrialProgress, read_progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_steps_tell_their_pace_and_when_report_and_end_are_due(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "progress.json"
    writer = ProgressWriter(path, [5, 15, 45], clock)
    writer.begins(0)
    first = read_progress(path)
    assert first and (first.phase, first.step, first.step_s, first.report_in_s) == (Phase.training, 0, None, None)
    for step in (1, 2, 3, 4):
        clock.now += 2.5
        writer.stepped(step, tokens=250)
    state = read_progress(path)
    assert state and (state.step, state.next_report, state.last_step, state.reports_left) == (4, 5, 45, 3)
    assert (state.step_s, state.tokens_per_s, state.report_in_s, state.end_in_s) == (2.5, 100.0, 2.5, 102.5)


def test_a_short_step_writes_nothing_and_a_long_one_at_once(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "progress.json"
    writer = ProgressWriter(path, [1000], clock)
    writer.begins(0)
    written = []
    for step in range(1, 101):
        clock.now += 0.1
        path.unlink(missing_ok=True)
        writer.stepped(step, 10)
        written.append(path.exists())
    assert 4 <= sum(written) <= 5  # of 10 seconds


def test_evaluations_are_counted_in_what_is_due_and_not_in_a_steps_seconds(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "progress.json"
    writer = ProgressWriter(path, [2, 4], clock)
    writer.begins(0)
    for step in (1, 2):
        clock.now += 1.0
        writer.stepped(step, 10)
    writer.evaluating(2, 0.0)
    clock.now += 3.0
    writer.evaluating(2, 0.5)
    half = read_progress(path)
    assert half and (half.phase, half.evaluated) == (Phase.evaluating, 0.5)
    clock.now += 3.0
    writer.evaluating(2, 1.0)
    writer.waits(2)
    clock.now += 500.0  # the scheduler takes its time
    writer.begins(2)
    state = read_progress(path)
    assert state and (state.step_s, state.evaluation_s, state.report_in_s, state.end_in_s) == (1.0, 6.0, 8.0, 8.0)


def test_a_disk_that_takes_nothing_does_not_end_a_trial_and_half_a_file_is_none(tmp_path: Path) -> None:
    ProgressWriter(tmp_path / "missing" / "progress.json", [1]).begins(0)
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    path.write_text('{"phase": "train')
    assert read_progress(path) is None


def test_where_a_trial_is_in_words() -> None:
    training = TrialProgress(Phase.training, 12, 15, 45, 2, 2.2, 118.0)
    assert progress_words(training, 30.0) == (
        "step 12 of 45, 2.2 s a step, 118 tokens/s, reports at step 15 in about 7 s, ends in about 1 min 13 s"
    )
    assert progress_words(training, 90.0, 40.0).endswith("not heard of for 40 s")
    assert progress_words(None, 9.0) == "waits for its workers, 9 s after its start"
    assert progress_words(TrialProgress(Phase.training, 0, 5, 45), 9.0) == "step 0 of 45, takes its next step"
    assert progress_words(TrialProgress(Phase.loading, 0, 5, 45), 9.0) == "loads its model, step 0 of 45"
    evaluating = TrialProgress(Phase.evaluating, 15, 45, 45, evaluated=0.4)
    assert progress_words(evaluating, 9.0) == "step 15 of 45, evaluates: 40% of the validation rows"
