"""Says in words how far a running trial is."""

from __future__ import annotations

from raytune_ft.reporting.wording import duration, number
from raytune_ft.training.progress import Phase, TrialProgress

SILENT_S = 30.0
"""Seconds of silence from which on it is mentioned; a trial's process writes every few seconds."""


def progress_words(state: TrialProgress | None, running_s: float, silent_s: float = 0.0) -> str:
    """Returns how far a trial is, e.g. `step 12 of 45, 0.45 s a step, 950 tokens/s, ends in about 21 s`.

    Args:
        state: The trial's last progress; None before its workers have written any.
        running_s: Seconds since it was started.
        silent_s: Seconds since `state`.
    """
    if state is None:
        return f"waits for its workers, {duration(running_s)} after its start"
    words = [_phase(state)]
    if state.step_s is not None:
        words.append(f"{number(state.step_s, 2)} s a step")
    if state.tokens_per_s is not None:
        words.append(f"{state.tokens_per_s:,.0f} tokens/s")
    if state.phase is Phase.training and state.report_in_s is not None and state.end_in_s is not None:
        if state.next_report < state.last_step:
            words.append(f"reports at step {state.next_report} in about {duration(state.report_in_s)}")
        words.append(f"ends in about {duration(state.end_in_s)}")
    if silent_s > SILENT_S:
        words.append(f"not heard of for {duration(silent_s)}")
    return ", ".join(words)


def _phase(state: TrialProgress) -> str:
    of_all = f"step {state.step} of {state.last_step}"
    match state.phase:
        case Phase.loading:
            return f"loads its model, {of_all}"
        case Phase.evaluating:
            return f"{of_all}, evaluates: {state.evaluated or 0:.0%} of the validation rows"
        case Phase.waiting:
            return f"{of_all}, waits for the scheduler"
        case Phase.training if state.step_s is None:
            return f"{of_all}, takes its next step"
        case Phase.training:
            return of_all
