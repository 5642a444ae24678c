from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.data.prepared import TEST_ROWS
from raytune_ft.errors import InputError
from raytune_ft.evaluation.uses import Use, note_use
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.reporting.html.html import write_report
from raytune_ft.reporting.html.importance import parameter_importances
from raytune_ft.reporting.html.picture import write_picture

MakeRun = Callable[..., RunDirectory]
CANARY = "<script>alert('canary')</script></script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Collects scripts, links to elsewhere and element ids, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.elsewhere: list[str] = []
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.elsewhere.append(value or "")
            if name == "id":
                self.ids.add(value or "")
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data


def page_of(run: RunDirectory) -> tuple[str, Page]:
    text = write_report(run).read_text(encoding="utf-8")
    return text, Page(text)


def figures_of(page: Page) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, Any]] = json.loads(page.scripts[0])
    return figures


def test_the_report_is_one_file_without_links_and_with_every_figure(make_run: MakeRun) -> None:
    _, page = page_of(make_run())
    assert page.elsewhere == []
    assert len(page.scripts) == 3 and "plotly.js v" in page.scripts[1][:200]
    figures = figures_of(page)
    assert set(figures) == {"history", "curves", "importance", "parallel", "differences"}
    assert set(figures) <= page.ids
    assert all(figure["data"] for figure in figures.values())


def test_the_report_says_how_often_the_test_rows_decided_something(make_run: MakeRun) -> None:
    run = make_run()
    assert "These rows were used for" not in page_of(run)[0]
    (run.data / TEST_ROWS).write_text('{"prompt": "a", "completion": " b"}\n', encoding="utf-8")
    for number in range(4):
        note_use(run, Use("evaluate", f"run-{number}", "0001", f"weights {number}", "base"))
    note_use(run, Use("promote", "run-0", "0001", "weights 0", "movies@champion, without a version"))
    told = "used for 5 decisions so far, in 4 runs: 4 winners compared with the base, 1 promotion judged."
    luck = "of 4 winners no better than the base, one passes by luck in up to 10 % of the cases."
    text, _ = page_of(run)
    assert told in text and luck in text


def test_only_the_two_scripts_of_the_report_may_run(make_run: MakeRun) -> None:
    text, page = page_of(make_run())
    allowed = set(re.findall(r"'sha256-([^']+)'", text.split("<title>")[0]))
    assert allowed == {base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in page.scripts[1:]}


def test_what_a_trial_wrote_stays_text(make_run: MakeRun) -> None:
    text, page = page_of(make_run(failed_reason=CANARY))
    assert CANARY not in text and "<script>alert" not in text and "onerror=alert(1)>" not in text
    assert "&lt;script&gt;alert(&#x27;canary&#x27;)" in text
    assert "img" not in page.tags and len(page.scripts) == 3


def test_a_parameter_named_like_a_tag_stays_text(make_run: MakeRun) -> None:
    run = make_run()
    board = json.loads(run.leaderboard.read_text())
    for row in board["rows"]:
        row["parameters"] = {f"train.{CANARY}": CANARY, **row["parameters"]}
    write_json(run.leaderboard, board)
    text, page = page_of(run)
    assert CANARY not in text and "img" not in page.tags and len(page.scripts) == 3
    assert "<img" not in json.dumps(figures_of(page))


def test_too_few_comparable_trials_are_said_in_words(make_run: MakeRun) -> None:
    text, page = page_of(make_run(trials=3))
    assert "importances need at least 4" in text
    assert "importance" not in figures_of(page)


def test_importances_are_shares_of_one(make_run: MakeRun) -> None:
    run = make_run()
    found = parameter_importances(run, "movie-sentiment")
    assert sum(found.shares.values()) == pytest.approx(1)
    assert next(iter(found.shares)) == "train.learning_rate"  # the toy loss depends on it most
    assert parameter_importances(run, "other").absent.startswith("study.db holds no study named other")


def test_a_run_in_which_everything_failed_still_has_a_report(make_run: MakeRun) -> None:
    run = make_run(trials=4)
    board = json.loads(run.leaderboard.read_text())
    for row in board["rows"]:
        row.update(rank=None, value=None, outcome="out_of_memory", reason="CUDA out of memory")
    write_json(run.leaderboard, board)
    for path in (run.winner, run.evaluation, run.data / "manifest.json", run.study):
        path.unlink()
    text, page = page_of(run)
    assert "None of 4 trials has a result" in text and "CUDA out of memory" in text
    assert set(figures_of(page)) == {"history", "curves"}


def test_data_without_labels_has_a_report_without_a_difference_plot(make_run: MakeRun) -> None:
    run = make_run()
    evaluation = json.loads(run.evaluation.read_text())
    evaluation.update(metrics=["loss"], difference={"loss": evaluation["difference"]["loss"]})
    write_json(run.evaluation, evaluation)
    text, page = page_of(run)
    assert "differences" not in page.ids and "-0.480 to -0.360" in text


def test_parameters_that_are_lists_or_only_sometimes_set_are_drawn(make_run: MakeRun) -> None:
    run = make_run()
    board = json.loads(run.leaderboard.read_text())
    for index, row in enumerate(board["rows"]):
        row["parameters"]["method.target_modules"] = [["q_proj"], ["q_proj", "v_proj"], "all-linear"][index % 3]
        if index % 2:
            row["parameters"]["method.dropout"] = index / 100
    write_json(run.leaderboard, board)
    text, page = page_of(run)
    names = [note["text"] for note in figures_of(page)["parallel"]["layout"]["annotations"]]
    assert "<b>target_modules</b>" in names and "<b>dropout</b>" in names and "[&#x27;q_proj&#x27;]" in names
    assert "[&#x27;q_proj&#x27;, &#x27;v_proj&#x27;]" in text


@pytest.mark.parametrize(("name", "start"), [("sweep.png", b"\x89PNG"), ("sweep.svg", b"<?xml")])
def test_a_still_picture_is_drawn(make_run: MakeRun, tmp_path: Path, name: str, start: bytes) -> None:
    path = write_picture(make_run(), tmp_path / "docs" / name)
    assert path.read_bytes().startswith(start)


def test_a_picture_in_another_format_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--plot: 'sweep\.gif' is neither \.png nor \.svg"):
        write_picture(make_run(), tmp_path / "sweep.gif")


def test_a_wide_spread_of_losses_is_drawn_on_a_logarithmic_axis() -> None:
    from raytune_ft.reporting.html.plots import wants_log

    assert wants_log([0.2, 5.0])
    assert not wants_log([0.2, 0.3])
    assert not wants_log([-1.0, 5.0])
    assert not wants_log([])
