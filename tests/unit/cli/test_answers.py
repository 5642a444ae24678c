"""What the light verbs print, how fast, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raytune_ft.cli.app import app

HEAVY = ("torch", "ray", "transformers", "vllm", "optuna", "datasets", "plotly", "pandas", "trl", "peft", "deepspeed")
VERBS = (
    "assets portfolio init check plan train sweep status evaluate compare promote rollback adapters canary journal "
    "serve chat keys feedback monitor submit report doctor"
)
runner = CliRunner()


IMPORTED = (
    "import sys\nfrom raytune_ft.cli.app import main\nsys.argv[0] = 'raytune-ft'\n"
    "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
    f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
)


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "--help"], ["check"], ["check", "--schema"]])
def test_help_and_check_import_nothing_heavy_and_so_answer_at_once(toy_experiment, arguments: list[str]) -> None:
    done = python(
        IMPORTED, *(arguments if arguments[0] == "--help" or arguments[1:] else [*arguments, toy_experiment()])
    )
    assert done.stdout.splitlines()[-1:] == ["HEAVY []"], done.stdout + done.stderr


def test_plan_imports_what_it_multiplies_with_and_no_more(toy_experiment) -> None:
    done = python(IMPORTED, "plan", toy_experiment())
    assert done.stdout.splitlines()[-1:] == ["HEAVY ['torch']"], done.stdout + done.stderr


def test_every_promised_verb_is_there_with_a_line_of_help() -> None:
    listed = {}
    for line in runner.invoke(app, ["--help"]).output.splitlines():
        verb, _, text = line.strip().partition("  ")
        listed[verb] = text.strip()
    assert [verb for verb in (*VERBS.split(), "dashboard") if not listed.get(verb)] == []


@pytest.mark.parametrize("verb", [*VERBS.split(), "dashboard", "quickstart"])
def test_each_option_of_a_verb_says_what_it_is(verb: str) -> None:
    result = runner.invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    bare = [line for line in result.output.splitlines() if line.startswith("  --") and len(line.split()) < 3]
    assert bare == []


def test_check_says_what_it_checked(toy_experiment) -> None:
    result = runner.invoke(app, ["check", str(toy_experiment())])
    assert result.exit_code == 0
    assert ": ok (" in result.stdout and "train 160" in result.stdout.replace("\n", " ")
    assert "\nrunner: lane (the base is shared and each trial starts at once)\n" in result.stdout


def test_check_says_why_no_lane_serves(toy_experiment) -> None:
    path = toy_experiment(resources={"strategy": {"type": "deepspeed", "zero_stage": 3}})
    result = runner.invoke(app, ["check", str(path)])
    assert "\nrunner: isolated (strategy deepspeed with zero_stage 3 shards the base" in result.stdout


def test_check_answers_programs_in_json(toy_experiment, tiny_llama: Path) -> None:
    result = runner.invoke(app, ["check", str(toy_experiment()), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "experiment": "toy",
        "base_model": str(tiny_llama),
        "splits": {"train": 160, "validation": 32, "test": 32},
        "runner": "lane",
        "runner_reason": "the base is shared and each trial starts at once",
        "warnings": [],
        "ok": True,
    }


def test_plan_says_what_a_sweep_would_take(toy_experiment) -> None:
    result = runner.invoke(app, ["plan", str(toy_experiment())])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:5] == [
        "toy: 2 trials, 1 at a time",
        "runner: lane (the base is shared and each trial starts at once)",
        "  to step 2: 2 of 2 trials",
        "  to step 4: 1 to 2 of 2 trials, 1 by plain halving",
        "optimizer steps: 6 to 8, 6 by plain halving",
    ]
    assert lines[5].startswith("samples: 48 to 64, about ") and lines[5].endswith(" tokens each (from a sample)")
    assert lines[6].startswith("tokens: ") and "; of a trial to its end " in lines[6]
    saved = "saves about 36 s as measured on 2 CPU cores without a GPU, SmolLM2-135M"
    assert lines[7] == f"worker groups started: at most 1, isolated trials would start 2; {saved}"
    assert lines[8].startswith("memory of a worker: base ") and lines[9].startswith("  at its peak: ")
    assert lines[10].startswith("disk: ") and lines[10].endswith(" MiB free")
    assert lines[11].startswith("time: ") and lines[12].startswith("device hours: ")
    assert lines[13].startswith("proof: with 32 test rows, no_worse can rule out that accuracy falls by ")
    assert len(lines) == 14
    assert "data.test: 32 rows are fewer than promotion.min_rows 40: gain and no_worse will refuse" in result.stderr


def test_plan_of_isolated_trials_promises_no_saving(toy_experiment) -> None:
    result = runner.invoke(app, ["plan", str(toy_experiment()), "--set", "runner={type: isolated}"])
    assert "runner: isolated (the experiment asks for it)\n" in result.stdout
    assert "worker groups started: 2, one a trial\n" in result.stdout


def test_plan_answers_programs_in_json(toy_experiment) -> None:
    result = runner.invoke(app, ["plan", str(toy_experiment()), "--json"])
    planned = json.loads(result.stdout)
    assert (planned["runner"], planned["steps"], planned["worker_groups"]) == ("lane", {"least": 6, "most": 8}, 1)
    assert planned["memory"]["adapter_parameters"] > 0


@pytest.mark.parametrize("verb", ["check", "plan", "sweep"])
def test_an_earlier_study_that_is_not_there_is_said_before_anything_starts(toy_experiment, verb: str) -> None:
    result = runner.invoke(app, [verb, str(toy_experiment()), "--set", "search.warm_start=[runs/nowhere]"])
    assert result.exception is not None
    assert str(result.exception).startswith("search.warm_start.0: runs/nowhere: ")


@pytest.mark.parametrize("verb", ["check", "plan"])
def test_a_look_ahead_writes_nothing(toy_experiment, tmp_path: Path, verb: str) -> None:
    path = toy_experiment()
    before = sorted(tmp_path.rglob("*"))
    assert runner.invoke(app, [verb, str(path)]).exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_the_schema_is_printed_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "raytune_ft", "check", "--schema"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "40"},
    )
    schema = json.loads(done.stdout)
    assert schema["$schema"].endswith("2020-12/schema") and "learning_rate" in done.stdout
    assert "\x1b" not in done.stdout


def test_init_writes_a_file_that_check_takes_and_never_overwrites_one(
    toy_experiment, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_experiment()
    monkeypatch.chdir(tmp_path)
    arguments = ["init", "--base-model", str(tiny_llama), "--train", "data/train.jsonl", "--test", "data/test.jsonl"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    assert "raytune-ft check experiment.yaml && raytune-ft sweep experiment.yaml" in result.output
    checked = runner.invoke(app, ["check", "experiment.yaml"])
    assert checked.exit_code == 0, checked.output
    Path("experiment.yaml").write_text("mine")
    again = subprocess.run([sys.executable, "-m", "raytune_ft", *arguments], capture_output=True, text=True)
    assert again.returncode == 2
    assert again.stderr == "error: experiment.yaml: already exists; give another file with --to\n"
    assert Path("experiment.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        ("KeyboardInterrupt()", 130, None),
        ("RaytuneError('it broke')", 1, "error: it broke"),
        ("IntegrityError('not whole')", 1, "error: not whole"),
        ("InputError('a', 'b', 'c')", 2, "error: a: b; c"),
    ],
)
def test_the_exit_code_tells_how_it_ended(raised: str, code: int, line: str | None) -> None:
    program = (
        "import raytune_ft.config.load as load\n"
        "from raytune_ft.errors import InputError, IntegrityError, RaytuneError\n"
        f"def fail(*_): raise {raised}\n"
        "load.load_experiment = fail\n"
        "from raytune_ft.cli.app import main\nmain()\n"
    )
    done = python(program, "check", "x.yaml")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if line:
        assert done.stderr.splitlines() == [line]
