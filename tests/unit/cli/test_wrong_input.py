"""Wrong input to the real command: exit code 2, one line, nothing started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.cli.app import main

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs the console script in `tmp_path`."""
    script = shutil.which("raytune-ft", path=str(Path(sys.executable).parent))
    assert script, "the console script is installed beside Python"

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [script, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The same in this process, where no second Python has to start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")  # main sets it; here it must not outlive the test

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["raytune-ft", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return subprocess.CompletedProcess(sys.argv, end.value.code, *capsys.readouterr())

    return run


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an InputError, without its prefix."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize("verb", ["check", "sweep", "train"])
def test_a_misspelled_key(command: Command, toy_experiment, tmp_path: Path, verb: str) -> None:
    path = change(toy_experiment(), "learning_rate: 0.01", "learing_rate: 0.01")
    number = path.read_text().splitlines().index("  learing_rate: 0.01") + 1
    assert refused(command(verb, path)) == (
        f"{path}:{number}: train.learing_rate: unknown key; did you mean learning_rate?"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", ["check", "plan", "sweep", "train"])
def test_a_missing_model(command: Command, toy_experiment, tmp_path: Path, verb: str) -> None:
    line = refused(command(verb, toy_experiment(base_model=str(tmp_path / "nowhere"))))
    assert line.startswith("base_model: ") and f"{tmp_path}/nowhere" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", ["check", "plan", "sweep", "train"])
def test_a_bad_data_line(command: Command, toy_experiment, tmp_path: Path, verb: str) -> None:
    path = toy_experiment()
    data = tmp_path / "data/train.jsonl"
    lines = data.read_text().splitlines()
    lines[16] = lines[16][:20]
    data.write_text("\n".join(lines) + "\n")
    assert refused(command(verb, path)).startswith(f"{data}:17: ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", ["check", "sweep"])
def test_a_space_with_low_above_high(command: Command, toy_experiment, tmp_path: Path, verb: str) -> None:
    (tmp_path / "space.yaml").write_text("parameters:\n  train.learning_rate: {loguniform: [1e-2, 1e-4]}\n")
    line = refused(command(verb, toy_experiment(), "--set", "search.space=space.yaml"))
    assert line == ("space.yaml:2: parameters.train.learning_rate: low 0.01 is above high 0.0001; write [0.0001, 0.01]")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["check", "nowhere.yaml"], "nowhere.yaml: No such file or directory; give the path of a YAML file"),
        (["check"], "check: no experiment file given; raytune-ft check experiments/quickstart.yaml"),
        (["evaluate", "nowhere"], "has no winner.json; run raytune-ft sweep or train first"),
        (
            ["evaluate", "nowhere", "--set", "train.max_steps=3"],
            "--set train.max_steps: is what the run was trained with, which stays as it is; set evaluate.* alone",
        ),
        (["status", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["compare", "nowhere", "elsewhere"], "nowhere"),
        (["promote", "nowhere"], "nowhere"),
    ],
)
def test_something_that_is_not_there(here: Command, arguments: list[str], line: str) -> None:
    assert line in refused(here(*arguments))


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_a_lane_that_can_not_serve(here: Command, toy_experiment, verb: str) -> None:
    path = toy_experiment(runner={"type": "lane"}, resources={"strategy": {"type": "deepspeed", "zero_stage": 3}})
    assert refused(here(verb, path)) == (
        "runner: type lane can't serve: strategy deepspeed with zero_stage 3 shards the base, which a lane keeps "
        "whole; use runner: {type: isolated}, or leave runner out"
    )


def test_a_sweep_without_a_search(here: Command, toy_experiment) -> None:
    assert "search: missing; add a search section, or use raytune-ft train" in refused(
        here("sweep", toy_experiment(search=None))
    )


def test_several_mistakes_are_a_line_each(here: Command, toy_experiment) -> None:
    path = toy_experiment(seed=-1, output_dir=3)
    done = here("check", path)
    assert done.returncode == 2 and done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ") and ": output_dir: 3 is not text; put it in quotes" in first
    assert second.startswith("error: ") and ": seed: -1: " in second


def test_debug_shows_where_the_error_came_from(command: Command) -> None:
    done = command("--debug", "check", "nowhere.yaml")
    assert done.returncode == 2
    assert "Traceback (most recent call last):" in done.stderr and "raytune_ft.errors.InputError: " in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: nowhere.yaml: ")


@pytest.mark.parametrize("arguments", [["chek"], ["check", "--shcema"], ["init"]])
def test_a_wrong_command_line_is_wrong_input_too(here: Command, arguments: list[str]) -> None:
    done = here(*arguments)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr


def test_a_password_in_an_override_is_not_printed(here: Command, toy_experiment, tmp_path: Path) -> None:
    override = "search.storage=postgresql://user:c4n4ry@host/db"
    done = here("check", toy_experiment(), "--set", override, "--set", "train.max_steps=0")
    assert done.returncode == 2 and "c4n4ry" not in done.stderr + done.stdout
