"""What is wrong in an experiment file is said in one line: file and line, key, value, remedy."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("name: movies", "nmae: movies"), "experiment.yaml:1: nmae: unknown key; did you mean name?"),
        (("  learning_rate:", "  learing_rate:"), "experiment.yaml:9: train.learing_rate: unknown key; "),
        (("grace_period: 5", "grace: 5"), "experiment.yaml:16: search.scheduler.grace: unknown key; did you mean "),
        (
            ("zero_stage: 2", "stage: 2"),
            "experiment.yaml:12: resources.strategy.stage: unknown key; did you mean ",
        ),
        (
            ("  trials: 4", "  zzzz: 4"),
            "experiment.yaml:17: search.zzzz: unknown key; known keys: algorithm, best, budget",
        ),
    ],
)
def test_a_misspelled_key_is_named_with_its_line_and_the_nearest_known_one(problem, change, line) -> None:
    message = problem(change)
    assert message.startswith(line) and "\n" not in message


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_key_of_before_gets_one_line_that_says_what_to_write(problem, value: str) -> None:
    assert problem(("max_steps: 30", f"max_steps: 30\n  bf16: {value}")) == (
        "experiment.yaml:11: train.bf16: is called dtype now; write dtype: bfloat16 for true, float32 for false, "
        "or leave it out"
    )
    message = problem(("max_steps: 30", "max_steps: 30\nevaluate:\n  bootstrap_samples: 2000"))
    assert message.endswith(
        "evaluate.bootstrap_samples: is needed no more: intervals are worked out without resampling; leave it out"
    )
    lane = "max_steps: 30\nrunner:\n  type: lane\n  "
    pinned = problem(("max_steps: 30", f"{lane}pin_threads: true"))
    assert pinned.endswith("runner.pin_threads: is needed no more: pinning gained nothing; leave it out")
    attention = problem(("max_steps: 30", f"{lane}step: {{attention: math}}"))
    assert "runner.step.attention: is called train.attn_implementation now" in attention


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("name: movies\n", ""), "experiment.yaml: name: missing; add it"),
        (("  train: train.jsonl\n", ""), "experiment.yaml:3: data.train: missing; add it"),
        (("  space: space.yaml\n", ""), "experiment.yaml:13: search.space: missing; add it"),
        (("base_model: models/base", "base_model:"), "experiment.yaml:2: base_model: None: input should be"),
    ],
)
def test_a_missing_key_is_named_with_the_line_of_its_section(problem, change, line) -> None:
    assert line in problem(change)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            ("max_steps: 30", "max_steps: many"),
            "experiment.yaml:10: train.max_steps: 'many' is not a whole number; write plain digits",
        ),
        (
            ("max_steps: 30", "max_steps: 1.5"),
            "experiment.yaml:10: train.max_steps: 1.5 is not a whole number; write it without point or exponent",
        ),
        (
            ("max_steps: 30", "max_steps: true"),
            "experiment.yaml:10: train.max_steps: true is not a whole number; write plain digits",
        ),
        (
            ("learning_rate: 1e-3", "learning_rate: '1e-3'"),
            "experiment.yaml:9: train.learning_rate: '1e-3' is not a number; write plain digits",
        ),
        (
            ("zero_stage: 2", "zero_stage: true"),
            "experiment.yaml:12: resources.strategy.zero_stage: true is not a stage; use 1, 2 or 3",
        ),
        (("name: movies", "name: [a]"), "experiment.yaml:1: name: ['a']: input should be a valid string"),
        (("name: movies", "name: 2024"), "experiment.yaml:1: name: 2024 is not text; put it in quotes"),
        (("  trials: 4", "  trials: 0"), "experiment.yaml:17: search.trials: 0: input should be greater than or equal"),
        (
            ("zero_stage: 2", "zero_stage: 4"),
            "experiment.yaml:12: resources.strategy.zero_stage: 4: input should be 1",
        ),
        (
            ("method: {type: lora, r: 8}", "method: lora"),
            'experiment.yaml:7: method: "lora" is not a section; write method: {type: lora}',
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_shown_with_what_it_should_be(problem, change, line) -> None:
    assert line in problem(change)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            ("type: asha", "type: ahsa"),
            "experiment.yaml:16: search.scheduler: type 'ahsa' is unknown; did you mean asha? use one of: ",
        ),
        (
            ("type: tpe", "type: cma"),
            "experiment.yaml:15: search.algorithm: type 'cma' is unknown; did you mean cmaes? use one of: random",
        ),
        (
            ("type: deepspeed", "type: fsdp"),
            "experiment.yaml:12: resources.strategy: type 'fsdp' is unknown; use one",
        ),
        (("{type: asha, ", "{"), "experiment.yaml:16: search.scheduler: has no type; add type: none or asha"),
    ],
)
def test_an_unknown_or_missing_type_lists_the_known_ones(problem, change, line) -> None:
    assert line in problem(change)


@pytest.mark.parametrize("name", ["Movies", "../movies", "a/b", "'a b'", ".hidden", "a..b", "a" * 65, "'mövies'", "''"])
def test_a_name_that_could_not_be_a_directory_is_refused_with_the_rule(problem, name) -> None:
    line = problem(("name: movies", f"name: {name}"))
    assert line.startswith("experiment.yaml:1: name: ") and "is not a valid name; use 1-64 of a-z" in line


@pytest.mark.parametrize("rate", ["-1e-3", "0", ".inf", "-.inf", ".nan", "1e400"])
def test_a_learning_rate_that_is_no_positive_number_is_refused(problem, rate) -> None:
    assert "experiment.yaml:9: train.learning_rate: " in problem(("1e-3", rate))


def test_a_rank_that_no_adapter_has_or_vllm_does_not_serve_is_refused(problem, load) -> None:
    assert "experiment.yaml:7: method.r: 0: input should be greater" in problem(("r: 8", "r: 0"))
    assert "experiment.yaml:7: method.r: 513: input should be less than or equal to 512" in problem(("r: 8", "r: 513"))
    assert load(("r: 8", "r: 512")).method.r == 512


def test_a_grace_period_above_the_last_step_is_refused(problem) -> None:
    line = problem(("grace_period: 5", "grace_period: 31"))
    assert "search.scheduler.grace_period 31 is above train.max_steps 30; lower one or raise the other" in line


def test_metrics_that_need_labels_and_labels_that_say_nothing_are_refused(problem) -> None:
    end = "  trials: 4\n"
    assert "need at least two labels; add labels" in problem((end, end + "evaluate: {metrics: [accuracy]}\n"))
    assert "repeat; each stands once" in problem((end, end + "evaluate: {labels: [a, a]}\n"))
    assert "have an empty one" in problem((end, end + "evaluate: {labels: ['', a]}\n"))
    unmarked = problem(("loss_on: completion", "loss_on: all"), (end, end + "evaluate: {labels: [a, b]}\n"))
    assert "which objective sft with loss_on all does not mark; leave labels out, or change" in unmarked


@pytest.mark.parametrize("fraction", ["0.0", "1.0", "1", "-0.1", ".nan"])
def test_a_validation_fraction_that_leaves_a_split_empty_is_refused(problem, fraction) -> None:
    line = problem(("  test: test.jsonl", f"  validation: {fraction}"))
    assert line.startswith(("experiment.yaml:3: data: validation", "experiment.yaml:5: data.validation"))


def test_all_problems_are_told_at_once_one_a_line(problem) -> None:
    lines = problem(("r: 8", "r: 0"), ("max_steps: 30", "max_step: 30")).splitlines()
    assert len(lines) == 2 and "method.r" in lines[0] and "train.max_step" in lines[1]


def test_a_metric_that_trials_do_not_report_is_refused(problem) -> None:
    assert "metric 'accuracy' is not reported by trials" in problem(("  trials: 4", "  metric: accuracy"))


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.max_steps", "--set train.max_steps: is not key=value; write e.g. --set train.max_steps=20"),
        ("=3", "--set =3: is not key=value"),
        ("train.max_steps=many", "--set: train.max_steps: 'many' is not a whole number; write plain digits"),
        ("train.learing_rate=1", "--set: train.learing_rate: unknown key; did you mean learning_rate?"),
        ("name.first=x", "--set name.first: name is 'movies', which has no keys below it; check the key path"),
        ("name=a: b", "--set name:1: not valid YAML"),
        ("name=*x", "--set name:1: alias *x; aliases are refused"),
        ("search.space=other.yaml", "--set: search.space: no file other.yaml"),
        ("search.space=" + "x" * 5000, "--set: search.space: no file xxxx"),
    ],
)
def test_a_wrong_override_is_placed_at_set(problem, override, line) -> None:
    assert problem(overrides=(override,)).startswith(line)


def test_overrides_replace_add_and_take_the_last_word(load) -> None:
    overrides = ("train.max_steps=20", "train.max_steps=25", "train.eval_steps=10", "data.test=", "name=a=b")
    with pytest.raises(ValueError, match="'a=b' is not a valid name"):
        load(overrides=overrides)
    experiment = load(overrides=(*overrides[:-2], "train.learning_rate=2e-4"))
    assert (experiment.train.max_steps, experiment.train.eval_steps) == (25, 10)
    assert experiment.train.learning_rate == 2e-4


@pytest.mark.parametrize(
    "change",
    [
        ("method: {type: lora, r: 8}", "method: {type: lora, r: 8, use_dora: true}"),
        ("  space: space.yaml\n", "  space: {parameters: {method.use_dora: {choice: [false, true]}}}\n"),
    ],
)
def test_an_adapter_that_could_not_be_served_is_refused_unless_it_is_merged(problem, load, change) -> None:
    message = problem(change)
    assert "vLLM can't load; set promotion.merge: needed" in message and "\n" not in message
    assert load(change, ("name: movies\n", "name: movies\npromotion: {merge: needed}\n")).promotion.merge == "needed"
