from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from raytune_ft.cli.report import dashboard, report
from raytune_ft.cli.status import compare, status
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory
from raytune_ft.serving.settings import is_loopback

MakeRun = Callable[..., RunDirectory]
app = typer.Typer()
for verb in (report, dashboard, status, compare):
    app.command()(verb)


def run_command(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_report_prints_where_the_file_is(make_run: MakeRun) -> None:
    run = make_run()
    assert run_command("report", str(run.root)).strip() == str(run.report)
    assert run.report.is_file()


def test_report_draws_a_picture_instead_when_asked(make_run: MakeRun, tmp_path: Path) -> None:
    run, picture = make_run(), tmp_path / "sweep.svg"
    assert json.loads(run_command("report", str(run.root), "--plot", str(picture), "--json")) == {"plot": str(picture)}
    assert picture.is_file() and not run.report.exists()


def test_status_speaks_json_to_programs(make_run: MakeRun) -> None:
    value = json.loads(run_command("status", str(make_run().root), "--json"))
    assert value["experiment"] == "movie-sentiment" and value["finished"] is True
    assert sum(value["outcomes"].values()) == value["planned"] == 16


def test_compare_warns_of_other_data(make_run: MakeRun) -> None:
    one, two = make_run("one", trials=4), make_run("two", trials=4, fingerprint="00" * 32)
    assert "can't be compared" in run_command("compare", str(one.root), str(two.root))
    assert json.loads(run_command("compare", str(one.root), str(two.root), "--json"))["same_data"] is False


@pytest.mark.parametrize("verb", ["report", "status", "dashboard"])
def test_a_directory_that_is_no_run_is_an_input_error(verb: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        run_command(verb, str(tmp_path))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_only_loopback_addresses_are_private(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
