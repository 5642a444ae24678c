"""What Ray Tune says of trials while a sweep runs: nothing to stdout, which the result has for itself."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.utils.callback import _create_default_callbacks

from raytune_ft.search.trials.watch import Quiet


@pytest.mark.parametrize(("passed", "printed"), [([], True), ([Quiet()], False)], ids=["Tune's own", "ours"])
def test_a_trial_that_ends_before_its_first_report_prints_nothing(
    passed: list[Quiet], printed: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    callbacks = _create_default_callbacks(list(passed), air_verbosity=None)
    (of_progress,) = [each for each in callbacks if isinstance(each, TrialProgressCallback)]
    of_progress.on_trial_complete(1, [], Mock(last_result={}))
    assert bool(capsys.readouterr().out) is printed
