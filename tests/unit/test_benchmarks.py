"""Benchmarks say what they ran on, start at once, and leave no process behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
pytestmark = pytest.mark.usefixtures("benchmarks_are_importable")


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_result_names_its_machine_its_load_and_its_rounds(path: Path) -> None:
    result = json.loads(path.read_text())
    parts = result.get("measures", {"all": result})
    assert parts
    for part in parts.values():
        machine = part.get("machine") or result["machine"]
        assert "cores" in machine and "Python" in machine
        assert part["load_before"] >= 0.0 and part["load_after"] >= 0.0
        rounds = part["rounds"].values() if isinstance(part["rounds"], dict) else [part["rounds"]]
        assert min(rounds) >= 1


@pytest.mark.parametrize("script", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_answers_help_before_it_imports_anything_heavy(script: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", str(script), "--help"], capture_output=True, text=True, timeout=600
    )
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert shown.returncode == 0 and "usage:" in shown.stdout
    assert not imported & {"torch", "ray", "transformers", "trl"}


def test_missing_assets_are_one_line_that_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import lanes
    from measures import inputs

    monkeypatch.setattr(inputs, "BASE", inputs.ROOT / "assets" / "not-there")
    assert lanes.main(["--only", "step", "--results", str(tmp_path / "lanes.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "assets/not-there/model.safetensors" in line and "raytune-ft assets fetch" in line


def test_each_measure_says_which_machine_it_had(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import lanes

    found = {"rounds": 5, "gaps": 35, "median_seconds": 0.2, "worst_seconds": 0.4}
    gap = {"load_before": 0.1, "load_after": 0.2, **{name: {"gap": value} for name, value in found.items()}}
    path = tmp_path / "lanes.json"
    path.write_text(json.dumps({"measures": {"gap": {"machine": "2 cores, of mine", **gap}}}))
    assert lanes.main(["--show", "--markdown", "--results", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "0.20 s (worst of 35: 0.40 s)" in shown and "gap: 5; 0.1 and 0.2; 2 cores, of mine" in shown


@pytest.mark.parametrize("word", ["0", "many", "lane=", "lane=x", "nobody=3"])
def test_rounds_that_mean_nothing_are_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    import lanes

    with pytest.raises(SystemExit) as refused:
        lanes.main(["--show", "--rounds", word])
    assert refused.value.code == 2
    assert "--rounds" in capsys.readouterr().err


def test_rounds_that_are_given_one_by_one_count_like_those_given_at_once() -> None:
    import lanes
    from measures import command

    parser = command.parser_of(None, lanes.MEASURES, Path("results.json"))
    for words in (["--rounds", "1", "warm=0"], ["--rounds", "1", "--rounds", "warm=0"]):
        options = command.options_of(parser.parse_args([*words, "--only", "gap", "--only", "sweep"]))
        assert options.rounds_of(("lane", "warm")) == {"lane": 1, "warm": 0}
    assert parser.parse_args(["--only", "gap", "--only", "sweep"]).only == ["gap", "sweep"]


def test_sides_take_turns_and_none_is_always_the_first() -> None:
    from measures.rounds import interleave

    order: list[str] = []

    def side(name: str) -> int:
        order.append(name)
        return len(order)

    sides = {name: (lambda name=name: side(name)) for name in ("a", "b", "c", "never")}
    results = interleave(sides, {"a": 3, "b": 3, "c": 1, "never": 0})
    assert order == ["a", "b", "c", "b", "a", "a", "b"]
    assert {name: len(values) for name, values in results.items()} == {"a": 3, "b": 3, "c": 1}
    order.clear()
    more = interleave(sides, {"a": 1, "b": 1, "c": 0, "never": 0}, {"a": [7, 8, 9], "c": [5]})
    assert order == ["b", "a"] and more == {"a": [7, 8, 9, 2], "b": [1], "c": [5]}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`measured(seconds, *words)`: the command with a measure that takes no time; its exit code and what it wrote."""
    from measures import command
    from measures.options import Measure, Options

    monkeypatch.setattr(command, "check_assets", lambda: None)
    monkeypatch.setattr(command, "code", lambda: "abc def")
    path = tmp_path / "results.json"

    def run(seconds: float, *words: str, adds: bool = True) -> tuple[int, dict]:
        def measure(options: Options) -> dict:
            found = [*(options.earlier or {"seconds": []})["seconds"], seconds]
            return {"rounds": len(found), "seconds": found, "code": command.code()}

        measures = {"it": Measure(measure, lambda _: [], (), adds=adds)}
        arguments = command.parser_of("", measures, path).parse_args(words)
        code = command.run(arguments, measures, command.options_of(arguments))
        return code, json.loads(path.read_text())["measures"]["it"]

    return run


def test_rounds_are_added_to_those_of_an_earlier_run(measured) -> None:
    assert measured(1.0, "--add")[1]["seconds"] == [1.0]
    assert measured(2.0, "--add")[1]["seconds"] == [1.0, 2.0]
    assert measured(3.0)[1]["seconds"] == [3.0]


def test_rounds_of_other_code_are_not_added_to(measured, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from measures import command

    measured(1.0)
    monkeypatch.setattr(command, "code", lambda: "abd def")
    code, found = measured(2.0, "--add")
    assert (code, found["seconds"]) == (2, [1.0])
    assert "--add: it was measured with code abc def, this is abd def" in capsys.readouterr().err


def test_code_is_named_by_the_commit_and_is_another_where_a_file_changed(tmp_path: Path) -> None:
    from measures.rounds import code

    def git(*words: str) -> None:
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *name, *words], check=True, capture_output=True)

    assert code(tmp_path) == "changed"  # no checkout
    files = [tmp_path / name for name in ("raytune_ft/a", "benchmarks/peers/a", "benchmarks/measures/inputs.py")]
    names = []
    for text in ("one", "two"):
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        git("init")
        git("add", ".")
        git("commit", "-m", text)
        names.append(code(tmp_path))
    assert names[0] != names[1] and all(len(name.split()) == 3 for name in names)
    (tmp_path / "README").write_text("not measured")
    assert code(tmp_path) == names[1]
    files[0].write_text("three")
    assert code(tmp_path) == "changed"


def test_a_measure_of_one_run_is_not_added_to(measured) -> None:
    assert measured(1.0, adds=False)[0] == 0
    assert measured(2.0, "--add", adds=False)[0] == 2


def test_the_gap_is_from_the_end_of_a_trial_to_the_first_step_of_the_one_taken_next(tmp_path: Path) -> None:
    from measures.gap import gaps_of

    times = {"0000": (10.0, 10.2, 15.9, 16.0), "0002": (22.1, 22.5, 29.0, 30.0), "0001": (16.1, 16.3, 21.2, 22.0)}
    for trial, (taken, first_step, reported, ended) in times.items():
        (tmp_path / trial).mkdir()
        timing = {"taken": taken, "first_step": first_step, "reported": reported, "ended": ended}
        (tmp_path / trial / "timing.json").write_text(json.dumps(timing))
        kind = "pruned" if trial == "0001" else "completed"
        (tmp_path / trial / "outcome.json").write_text(json.dumps({"outcome": kind}))
    assert gaps_of(tmp_path, "completed") == pytest.approx([0.3])
    assert gaps_of(tmp_path, "pruned") == pytest.approx([1.3])


@pytest.mark.parametrize("runner", ["lane", "isolated"])
def test_our_side_of_a_sweep_tries_the_very_trials_that_the_peers_do(
    runner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from measures import inputs

    from raytune_ft.config.load import load_experiment

    sentences = tmp_path / "sentences.jsonl"
    sentences.write_text("".join(json.dumps({"prompt": f"{i}", "completion": " x"}) + "\n" for i in range(200)))
    monkeypatch.setattr(inputs, "SENTENCES", sentences)
    search = load_experiment(inputs.write_experiment(tmp_path / "ours", 8, {"type": runner})).search
    job = json.loads(inputs.write_job(tmp_path / "peer", 8).read_text())
    assert search is not None and search.trials == len(job["trials"]) == 8
    ours = [(each["train.learning_rate"], each["method.r"]) for each in search.space.start_from]
    assert ours == [(each["learning_rate"], each["r"]) for each in job["trials"]]
    assert Path(job["train"]).read_text() == (tmp_path / "ours" / "train.jsonl").read_text()
    assert len(Path(job["validation"]).read_text().splitlines()) == inputs.EVALUATION_ROWS


def test_the_quickstarts_stages_are_found_in_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    from measures.quickstart import _DONE

    from raytune_ft.cli.quickstart import stage

    with stage(2, "sweep", "something"):
        pass
    assert _DONE.findall(capsys.readouterr().err) == [("2", "sweep", "0")]


LEAVES_A_DAEMON = """
import subprocess, sys, time
daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open("daemon", "w").write(str(daemon.pid))
time.sleep(float(sys.argv[1]))
"""
RUNS_A_SIDE = """
import sys
from pathlib import Path
from measures import processes
processes._LEAVE_S = 0.2
try:
    processes.run_side([sys.executable, "-c", sys.argv[1], sys.argv[2]], Path(sys.argv[3]), timeout_s=2.0)
except processes.SideFailed as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(("sleeps_s", "says"), [("0", ""), ("60", "not done after 2 s, killed")])
def test_nothing_is_left_of_a_side_not_even_what_it_sent_to_the_background(
    sleeps_s: str, says: str, tmp_path: Path
) -> None:
    started = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", RUNS_A_SIDE, LEAVES_A_DAEMON, sleeps_s, str(tmp_path)],
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert says in ran.stderr and bool(says) == bool(ran.returncode), ran.stderr
    assert time.monotonic() - started < 55.0
    assert not psutil.pid_exists(int((tmp_path / "daemon").read_text()))
