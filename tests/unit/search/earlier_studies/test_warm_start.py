"""Earlier trials as points that the algorithm has seen: which are taken, how many, and what they change."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import with_settings
from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory, write_json, write_text
from raytune_ft.search.earlier_studies.warm_start import Taken, check_warm_start, enqueue_best, sources, warm_start
from raytune_ft.search.sampling.samplers import make_sampler
from raytune_ft.search.sampling.space import suggest
from raytune_ft.search.study.resume import check_same_experiment
from raytune_ft.search.study.study import open_study, tell
from raytune_ft.training.metrics_log import append_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind

RATE, RANK, BATCH = "train.learning_rate", "method.r", "train.per_device_train_batch_size"
BEST = 10**-3.5
Trial = tuple[dict[str, Any], str, dict[int, float]]
MakeExperiment = Callable[..., Experiment]


pytestmark = pytest.mark.usefixtures("quiet")


def change(experiment: Experiment, **settings: Any) -> Experiment:
    """The experiment with other settings; `__` stands for the dot."""
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    return Experiment.model_validate(with_settings(experiment.model_dump(mode="json"), dotted))


def leave_run(root: Path, experiment: Experiment, trials: list[Trial], fingerprint: str = "same") -> str:
    """Leaves what a sweep of `experiment` left: parameters, outcome and curve of each trial."""
    run = RunDirectory(root)
    write_text(run.experiment, resolved_yaml(experiment))
    write_json(run.data / "manifest.json", {"fingerprint": fingerprint})
    for number, (parameters, kind, curve) in enumerate(trials):
        trial = run.trial(f"{number:04d}")
        trial.root.mkdir(parents=True)
        write_json(trial.config, {"trial": trial.root.name, "parameters": parameters})
        for step, loss in curve.items():
            append_metrics(trial.metrics, {"step": step, "eval_loss": loss, "seconds": 1.0 * step, "tokens": 10 * step})
        Outcome(OutcomeKind(kind), "", max(curve, default=2), curve.get(max(curve, default=0))).write(trial)
    return str(root)


def valley(rate: float) -> float:
    return 0.3 + 0.1 * (math.log10(rate / BEST)) ** 2


def twenty() -> list[Trial]:
    """Completed trials over the whole range of the rate."""
    rates = [10 ** (-4 + 2 * index / 19) for index in range(20)]
    return [
        ({RATE: rate, RANK: (4, 8, 16)[index % 3]}, "completed", {45: valley(rate)}) for index, rate in enumerate(rates)
    ]


@pytest.fixture
def prepared(run: RunDirectory) -> RunDirectory:
    """A run whose data is prepared."""
    write_json(run.data / "manifest.json", {"fingerprint": "same"})
    return run


def take(experiment: Experiment, run: RunDirectory, *earlier: str) -> tuple[tuple[Taken, ...], Experiment]:
    warm = change(experiment, search__warm_start=list(earlier))
    assert warm.search is not None
    return warm_start(warm, warm.search, run), warm


def test_of_the_same_study_all_trials_are_taken_at_their_own_values(make_experiment, prepared, tmp_path) -> None:
    earlier = leave_run(tmp_path / "earlier", change(make_experiment(), name="earlier"), twenty())
    (taken,), experiment = take(make_experiment(), prepared, earlier)
    assert (taken.weight, taken.differences, len(taken.trials), taken.outside) == (1.0, (), 20, 0)
    (source,) = sources((taken,), experiment, experiment.search)
    assert source.comparable and source.points[0].costs == (min(valley(each[0][RATE]) for each in twenty()),)
    assert str(taken) == f"warm start: 20 of 20 trials of {earlier}, weight 1"


@pytest.mark.parametrize(
    ("fingerprint", "settings", "weight", "difference"),
    [
        ("other", {}, 0.5, "other data"),
        ("same", {"base_model": "elsewhere/base"}, 1.0, None),
        ("same", {"base_model": "other"}, 0.5, "another base model"),
        ("same", {"train__max_steps": 15}, 0.5, "15 steps instead of 45"),
        ("same", {"train__max_steps": 60}, 0.75, "60 steps instead of 45"),
        ("same", {"objective": {"type": "sft", "loss_on": "all"}}, 0.5, "other settings of the objective"),
        ("same", {"method__type": "full"}, 0.0, "another method"),
        ("same", {"method__type": "qlora"}, 0.5, "another method"),
        ("same", {"train__weight_decay": 0.3, "method__alpha": 99}, 0.75, "other method.alpha, train.weight_decay"),
        ("other", {"base_model": "other", "train__max_steps": 15}, 0.125, "other data"),
        ("same", {"seed": 7, "search__trials": 30}, 1.0, None),
        ("same", {"train__dtype": "bfloat16"}, 1.0, None),
    ],
)
def test_the_less_alike_a_study_is_the_fewer_of_its_trials_are_taken(
    make_experiment,
    prepared,
    tmp_path,
    fingerprint: str,
    settings: dict[str, Any],
    weight: float,
    difference: str | None,
) -> None:
    experiment = make_experiment(scheduler={"type": "none"}, trials=16)
    earlier = leave_run(tmp_path / "earlier", change(experiment, name="earlier", **settings), twenty(), fingerprint)
    (taken,), _ = take(experiment, prepared, earlier)
    assert taken.weight == weight
    assert (difference in taken.differences) if difference else not taken.differences
    assert len(taken.trials) == (20 if weight == 1.0 else math.ceil(16 * weight)), "own trials outvote them in the end"
    costs = [trial.costs for trial in taken.trials]
    if not weight:
        return
    assert costs == sorted(costs) and costs[0] == (min(valley(each[0][RATE]) for each in twenty()),)
    assert len(costs) == 2 or costs[-1] == (max(valley(each[0][RATE]) for each in twenty()),), "evenly over the ranks"


def test_trials_that_the_space_does_not_hold_are_left_out_and_counted(make_experiment, prepared, tmp_path) -> None:
    parameters = {RATE: {"loguniform": [1e-5, 1.0]}, RANK: {"choice": [4, 8, 32]}, BATCH: {"choice": [4, 8]}}
    wider = change(make_experiment(space={"parameters": parameters}), name="earlier")
    trials: list[Trial] = [
        ({RATE: 1e-3, RANK: 8, BATCH: 8}, "completed", {45: 0.4}),
        ({RATE: 1e-5, RANK: 8, BATCH: 8}, "completed", {45: 0.4}),
        ({RATE: 1e-3, RANK: 32, BATCH: 8}, "completed", {45: 0.4}),
        ({RATE: 1e-3, RANK: 8, BATCH: 4}, "completed", {45: 0.4}),
    ]
    (taken,), _ = take(make_experiment(), prepared, leave_run(tmp_path / "earlier", wider, trials))
    assert [trial.parameters for trial in taken.trials] == [{RATE: 1e-3, RANK: 8}]
    assert (taken.ended, taken.outside) == (4, 3) and str(taken).endswith("; 3 lie outside of the space")


def test_a_setting_that_was_not_searched_has_the_value_of_the_earlier_experiment(
    make_experiment, prepared, tmp_path
) -> None:
    narrow = change(make_experiment(space={"parameters": {RATE: {"loguniform": [1e-4, 1e-2]}}}), method__r=16)
    earlier = leave_run(tmp_path / "earlier", narrow, [({RATE: 1e-3}, "completed", {45: 0.4})])
    (taken,), _ = take(make_experiment(), prepared, earlier)
    assert [trial.parameters for trial in taken.trials] == [{RATE: 1e-3, RANK: 16}]


def test_stopped_and_diverged_trials_count_and_what_tells_of_the_machine_does_not(
    make_experiment, prepared, tmp_path
) -> None:
    trials: list[Trial] = [
        ({RATE: 1e-3, RANK: 8}, "completed", {5: 0.6, 45: 0.4}),
        ({RATE: 2e-3, RANK: 8}, "pruned", {5: 0.9}),
        ({RATE: 9e-3, RANK: 8}, "diverged", {}),
        ({RATE: 1e-3, RANK: 16}, "out_of_memory", {}),
        ({RATE: 1e-3, RANK: 4}, "failed", {}),
    ]
    (taken,), experiment = take(make_experiment(), prepared, leave_run(tmp_path / "earlier", make_experiment(), trials))
    assert [trial.costs for trial in taken.trials] == [(0.4,), (pytest.approx(0.7),), None]
    (source,) = sources((taken,), experiment, experiment.search)
    assert [point.parameters[RATE] for point in source.points] == [1e-3, 2e-3, 9e-3]


def test_conditions_hold_for_earlier_trials_too(make_experiment, prepared, tmp_path) -> None:
    space = {
        "parameters": {
            "method.use_rslora": {"choice": [True, False]},
            "method.dropout": {"choice": [0.0, 0.1], "when": {"method.use_rslora": True}},
        }
    }
    trials: list[Trial] = [
        ({"method.use_rslora": True, "method.dropout": 0.1}, "completed", {45: 0.4}),
        ({"method.use_rslora": False}, "completed", {45: 0.5}),
    ]
    experiment = make_experiment(space=space, algorithm={"type": "tpe", "n_startup_trials": 1})
    (taken,), warm = take(experiment, prepared, leave_run(tmp_path / "earlier", experiment, trials))
    (source,) = sources((taken,), warm, warm.search)
    assert [point.parameters for point in source.points] == [each[0] for each in trials]
    assert [set(point.distributions) for point in source.points] == [set(each[0]) for each in trials]
    study = optuna.create_study(sampler=make_sampler(warm.search, warm, 0, [source]))
    drawn = [suggest(study.ask(), warm.search.space, {}) for _ in range(8)]
    assert all(("method.dropout" in each) == each["method.use_rslora"] for each in drawn)


@pytest.mark.parametrize(
    "algorithm",
    [
        {"type": "tpe"},
        {"type": "gp"},
        {"type": "cmaes"},
        {"type": "nsga2", "population_size": 4},
        {"type": "nsga3", "population_size": 4},
    ],
    ids=lambda each: each["type"],
)
def test_the_algorithm_goes_on_from_earlier_trials_and_the_study_holds_its_own_alone(
    make_experiment, prepared, tmp_path, algorithm: dict[str, Any]
) -> None:
    earlier = leave_run(tmp_path / "earlier", make_experiment(), twenty(), fingerprint="other")
    distances = {}
    for start in ([earlier], []):
        far = []
        for seed in range(1 if algorithm["type"] == "gp" else 8):
            experiment = make_experiment(algorithm={**algorithm, "seed": seed}, trials=24)
            taken, warm = take(experiment, prepared, *start)
            shutil.rmtree(prepared.trials, ignore_errors=True)
            study = optuna.create_study(sampler=make_sampler(warm.search, warm, 0, sources(taken, warm, warm.search)))
            for number in range(4):
                trial = study.ask()
                parameters = suggest(trial, warm.search.space, {})
                assert trial.number == number
                far.append(abs(math.log10(parameters[RATE] / BEST)))
                tell(study, trial, Outcome(OutcomeKind.completed, "", 45, 7 + valley(parameters[RATE])))
            assert [each.value > 7 for each in study.trials] == [True] * 4
        distances[bool(start)] = sum(far) / len(far)
    assert distances[True] < 0.75 * distances[False]


def test_the_best_is_tried_first_unless_the_study_is_the_same(make_experiment, prepared, tmp_path) -> None:
    same = leave_run(tmp_path / "same", make_experiment(), twenty())
    other = leave_run(tmp_path / "other", make_experiment(), twenty()[::-1], fingerprint="other")
    taken, warm = take(make_experiment(), prepared, same, other)
    study = open_study(warm, warm.search, prepared, sources(taken, warm, warm.search))
    for _ in range(2):  # a driver that was killed meanwhile does it again
        enqueue_best(study, taken)
    assert [trial.state.name for trial in study.trials] == ["WAITING"]
    best = min((each[0] for each in twenty()), key=lambda parameters: valley(parameters[RATE]))
    assert suggest(study.ask(), warm.search.space, {}) == best


def test_a_resumed_study_sees_what_it_saw(make_experiment, prepared, tmp_path) -> None:
    earlier = leave_run(tmp_path / "earlier", make_experiment(), twenty(), fingerprint="other")
    before, warm = take(make_experiment(), prepared, earlier)
    prepared.trials.mkdir()
    shutil.rmtree(earlier)
    check_warm_start(change(warm, output_dir=str(prepared.root.parent)))
    assert warm_start(warm, warm.search, prepared) == before
    write_text(prepared.experiment, resolved_yaml(warm))
    with pytest.raises(InputError, match=r"search\.warm_start: \['.*earlier'\] -> \['.*other'\]"):
        check_same_experiment(change(warm, search__warm_start=[str(tmp_path / "other")]), prepared)


def test_several_goals_are_all_taken(make_experiment, prepared, tmp_path) -> None:
    earlier = leave_run(tmp_path / "earlier", make_experiment(), twenty())
    goals = [{"name": "eval_loss"}, {"name": "tokens", "mode": "max"}]
    (taken,), _ = take(make_experiment(metrics=goals), prepared, earlier)
    assert len(taken.trials) == 20 and {trial.costs[1] for trial in taken.trials} == {-450.0}
    unknown = make_experiment(metrics=[{"name": "eval_loss"}, {"name": "adapter_mib"}])
    assert take(unknown, RunDirectory(tmp_path / "again"), earlier)[0][0].trials == ()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: shutil.rmtree(root), r"search\.warm_start\.0: .*earlier: is no run directory"),
        (lambda root: (root / "experiment.yaml").write_text("name: x"), "is a single training, not a study"),
        (lambda root: (root / "experiment.yaml").write_bytes(b"\xff\x00"), "can't be read"),
        (lambda root: (root / "trials/0003/outcome.json").write_text('{"outc'), "can't be read .*outcome.json"),
        (lambda root: (root / "trials/0003/config.json").write_text("{}"), "can't be read .*parameters"),
        (
            lambda root: (root / "experiment.yaml").write_text("search: {metric: accuracy, mode: max}"),
            "looked for max accuracy, and this study for min eval_loss; leave it out",
        ),
    ],
)
def test_what_is_no_study_of_the_metric_is_an_error_with_its_place(
    make_experiment, tmp_path, break_it: Callable[[Path], Any], message: str
) -> None:
    earlier = leave_run(tmp_path / "earlier", make_experiment(), twenty())
    experiment = change(make_experiment(), search__warm_start=[earlier], output_dir=str(tmp_path / "runs"))
    check_warm_start(experiment)
    break_it(Path(earlier))
    with pytest.raises(InputError, match=message):
        check_warm_start(experiment)


def test_a_study_does_not_start_from_itself(make_experiment, tmp_path) -> None:
    own = leave_run(tmp_path / "runs/toy", make_experiment(), twenty())
    experiment = change(make_experiment(), search__warm_start=[own], output_dir=str(tmp_path / "runs"))
    with pytest.raises(InputError, match="is this study's own run directory; add --resume"):
        check_warm_start(experiment)


def test_what_was_taken_is_on_record_beside_the_run(make_experiment, prepared, tmp_path) -> None:
    take(make_experiment(), prepared, leave_run(tmp_path / "earlier", make_experiment(), twenty()[:2]))
    noted = json.loads(prepared.warm_start.read_text())
    assert noted["taken"][0]["weight"] == 1.0 and len(noted["taken"][0]["trials"]) == 2
