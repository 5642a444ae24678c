"""The table of a study that goes on: it counts the study's trials, not this driver's."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from raytune_ft.config.search.goals import Metric
from raytune_ft.paths import RunDirectory
from raytune_ft.reporting.terminal.live import LiveTable, ended_before


def test_a_study_that_goes_on_counts_what_ended_before_and_knows_its_best(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for name, losses in (("0000", [0.5, 0.3, 0.4]), ("0001", [])):
        trial = run.trial(name)
        trial.root.mkdir(parents=True)
        trial.outcome.write_text(json.dumps({"outcome": "failed", "reason": "", "value": 0.4}))
        trial.metrics.write_text("".join(json.dumps({"step": i, "eval_loss": x}) + "\n" for i, x in enumerate(losses)))
    run.trial("0002").root.mkdir()  # was running when the driver was killed
    before = ended_before(run, Metric(name="eval_loss"))
    assert before == {"0000": 0.3, "0001": None}
    stream = io.StringIO()
    with LiveTable(4, Metric(name="eval_loss"), Console(file=stream, width=200), before) as table:
        table.started("0002", {"method.r": 8})
        table.reported("0002", {"step": 5, "eval_loss": 0.9})
        table.started("0003", {"method.r": 4})
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("trial 0002 [3/4] started") and lines[2].startswith("trial 0003 [4/4] started")
    assert lines[1].endswith("(best 0.3000, trial 0000)")
