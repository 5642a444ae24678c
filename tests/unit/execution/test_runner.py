"""Which runner an experiment gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.errors import InputError
from raytune_ft.execution.runner import choose_runner

SERVES = "the base is shared and each trial starts at once"


@pytest.fixture
def experiment(tmp_path: Path):
    def make(
        config: dict[str, Any] | None = None,
        space: dict[str, Any] | None = None,
        strategy: dict[str, Any] | None = None,
        max_length: int = 64,
        **others: Any,
    ) -> Experiment:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **(config or {})}))
        values = {
            "name": "e",
            "base_model": str(tmp_path),
            "data": {"train": "t.jsonl", "max_length": max_length},
            "resources": {"strategy": strategy or {"type": "ddp"}},
            **({"search": {"space": {"parameters": space}}} if space else {}),
            **others,
        }
        return Experiment.model_validate(values)

    return make


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"runner": {"type": "lane"}},
        {"strategy": {"type": "deepspeed", "zero_stage": 1}},
        {"strategy": {"type": "deepspeed", "zero_stage": 2}},
        {"space": {"train.learning_rate": {"loguniform": [1e-4, 1e-3]}, "method.r": {"choice": [4, 8]}}},
        {"space": {"seed": {"randint": [0, 5]}, "method.target_modules": {"choice": ["all-linear", ["q_proj"]]}}},
        {"config": {"model_type": "mistral"}},  # transformers' default window of 4096
        {"config": {"model_type": "mistral", "sliding_window": None}, "max_length": 8192},
        {"config": {"model_type": "qwen2", "sliding_window": 32, "use_sliding_window": False}},
        {"config": {"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": True}},
        {"config": {"sliding_window": 16}},  # llama reads none
        {"config": {"rope_parameters": {"rope_type": "llama3", "original_max_position_embeddings": 32}}},
        {"config": {"rope_scaling": {"type": "dynamic"}, "max_position_embeddings": 64}},
        {"method": {"target_modules": r"model\.layers\.\d+\.self_attn\.[qv]_proj"}},
    ],
)
def test_a_lane_serves(experiment, changes: dict[str, Any]) -> None:
    choice = choose_runner(experiment(**changes))
    assert isinstance(choice.runner, Lane)
    assert choice.reason == SERVES


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"resources": {"workers": 3, "strategy": {"type": "deepspeed", "zero_stage": 2}}},
            "over a number of workers that divides 64, not 3",
        ),
        ({"strategy": {"type": "deepspeed", "zero_stage": 3}}, "zero_stage 3 shards the base"),
        ({"strategy": {"type": "deepspeed", "offload_optimizer": True}}, "offload_optimizer moves"),
        ({"space": {"resources.workers": {"choice": [1, 2]}}}, "the space searches resources.workers, which"),
        ({"space": {"resources": {"choice": [{"workers": 2}]}}}, "the space searches resources, which"),
        ({"space": {"train.dtype": {"choice": ["bfloat16", "float32"]}}}, "the space searches train.dtype, which"),
        ({"space": {"train": {"choice": [{"dtype": "float32"}]}}}, "the space searches train, which"),
        ({"space": {"train.attn_implementation": {"choice": ["eager"]}}}, "searches train.attn_implementation, which"),
        (
            {"space": {"train.gradient_checkpointing": {"choice": [True]}}},
            "searches train.gradient_checkpointing, which",
        ),
        ({"space": {"method.type": {"choice": ["lora"]}}}, "the space searches method.type, which"),
        ({"space": {"method.target_modules": {"choice": [["lm_head"]]}}}, "method.target_modules takes lm_head"),
        ({"method": {"target_modules": ["q_proj", "embed_tokens"]}}, "takes model.embed_tokens"),
        ({"method": {"target_modules": ".*(_proj|_head)"}}, "method.target_modules takes lm_head"),
        ({"trust_remote_code": True}, "trust_remote_code brings"),
        ({"config": {"model_type": "gemma2"}}, "model_type gemma2 is not one that lanes run (arcee"),
        ({"config": {"quantization_config": {"quant_method": "gptq"}}}, "the base is quantized"),
        (
            {"config": {"model_type": "gemma", "use_bidirectional_attention": True}},
            "the base attends to later tokens too",
        ),
        ({"config": {"attention_dropout": 0.1}}, "the base trains with attention_dropout 0.1"),
        (
            {"config": {"model_type": "mistral"}, "max_length": 4097},
            "sliding window of 4096 tokens is shorter than data.max_length 4097",
        ),
        (
            {"config": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 32}},
            "sliding window of 32 tokens is shorter than data.max_length 64",
        ),
        (
            {"config": {"rope_scaling": {"type": "dynamic"}, "max_position_embeddings": 32}},
            "dynamic rotary embedding depends on the longest row beyond 32 tokens",
        ),
    ],
)
def test_where_no_lane_can_serve_trials_are_isolated_and_an_asked_for_lane_is_refused(
    experiment, changes: dict[str, Any], reason: str
) -> None:
    choice = choose_runner(experiment(**changes))
    assert isinstance(choice.runner, Isolated)
    assert reason in choice.reason and "\n" not in choice.reason
    with pytest.raises(InputError) as refused:
        choose_runner(experiment(**changes, runner={"type": "lane"}))
    assert str(refused.value) == (
        f"runner: type lane can't serve: {choice.reason}; use runner: {{type: isolated}}, or leave runner out"
    )


def test_isolated_is_given_where_it_is_asked_for_without_a_look_at_the_model(experiment) -> None:
    asked = experiment(runner={"type": "isolated"}, base_model="/nowhere")
    choice = choose_runner(asked)
    assert (choice.runner, choice.reason) == (Isolated(), "the experiment asks for it")


GPU = {"resources": {"gpus_per_worker": 1}}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"train": {"attn_implementation": "flash_attention_2"}},
            "flash_attention_2 runs on GPUs alone, and trials take none; use auto, eager or sdpa",
        ),
        (
            {"space": {"train.attn_implementation": {"choice": ["sdpa", "flash_attention_2"]}}},
            "flash_attention_2 runs on GPUs alone, and trials take none; use auto, eager or sdpa",
        ),
        (
            {"train": {"attn_implementation": "flash_attention_2", "dtype": "float32"}, **GPU},
            "flash_attention_2 does not compute in float32, which train.dtype is; use auto or sdpa",
        ),
        (
            {"train": {"attn_implementation": "flash_attention_2"}, "runner": {"type": "isolated"}, **GPU},
            "in isolated trials flash_attention_2 is the package flash-attn, which is not installed, and the "
            "experiment asks for isolated; use sdpa, which has PyTorch's own flash kernel, or install flash-attn",
        ),
        (
            {"train": {"attn_implementation": "flash_attention_2"}, "method": {"type": "full"}, **GPU},
            "in isolated trials flash_attention_2 is the package flash-attn, which is not installed, and no lane can "
            "serve: method full moves the base's own weights, which the trials of a lane share; use sdpa, which has "
            "PyTorch's own flash kernel, or install flash-attn",
        ),
    ],
)
def test_flash_attention_is_refused_where_it_can_not_be(experiment, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        choose_runner(experiment(**changes))
    assert str(refused.value) == f"train.attn_implementation: {line}"


@pytest.mark.parametrize("train", [{"dtype": "bfloat16"}, {"dtype": "auto"}])
def test_a_lane_on_a_gpu_takes_flash_attention_without_a_package(experiment, train: dict[str, Any]) -> None:
    asked = experiment(train={"attn_implementation": "flash_attention_2", **train}, **GPU)
    assert isinstance(choose_runner(asked).runner, Lane)


def test_isolated_trials_take_flash_attention_where_its_package_is(experiment, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    asked = experiment(train={"attn_implementation": "flash_attention_2"}, runner={"type": "isolated"}, **GPU)
    assert isinstance(choose_runner(asked).runner, Isolated)


def test_a_lane_keeps_the_settings_that_the_experiment_gives_it(experiment) -> None:
    choice = choose_runner(experiment(runner={"type": "lane", "packed": 2, "lanes": 3}))
    assert choice.runner == Lane(packed=2, lanes=3)


def test_a_base_that_is_not_there_is_an_input_error(experiment, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^base_model: .*no such directory"):
        choose_runner(experiment(base_model=str(tmp_path / "nowhere")))


def test_a_pattern_that_is_none_is_refused_by_the_settings(experiment) -> None:
    with pytest.raises(ValidationError, match=r"is not a regular expression"):
        experiment(method={"type": "lora", "target_modules": "model.["})


@pytest.mark.parametrize(
    "changes",
    [{"method": {"use_dora": True}}, {"space": {"method.use_dora": {"choice": [False, True]}}}],
)
def test_dora_is_trained_isolated(experiment, changes: dict[str, Any]) -> None:
    chosen = choose_runner(experiment(**changes, promotion={"merge": "needed"}))
    assert chosen.runner == Isolated() and "use_dora" in chosen.reason


@pytest.mark.parametrize("changes", [{"method": {"type": "full"}}, {"space": {"method.type": {"choice": ["full"]}}}])
def test_a_full_fine_tune_is_trained_isolated(experiment, changes: dict[str, Any]) -> None:
    chosen = choose_runner(experiment(**changes))
    assert chosen.runner == Isolated()
    assert "moves the base's own weights" in chosen.reason or "searches method.type" in chosen.reason


def test_float16_on_a_cpu_is_for_lanes_alone(experiment) -> None:
    half = {"dtype": "float16"}
    assert isinstance(choose_runner(experiment(train=half)).runner, Lane)
    for changes, why in (
        ({"runner": {"type": "isolated"}}, "the experiment asks for isolated"),
        ({"method": {"type": "full"}}, "no lane can serve: method full moves"),
        ({"space": {"train.dtype": {"choice": ["float16", "float32"]}}}, "no lane can serve: the space searches"),
    ):
        with pytest.raises(InputError, match=f"train\\.dtype: float16 trains on CPUs on lanes alone, and {why}"):
            choose_runner(experiment(**({"train": half} | changes)))
    on_gpu = experiment(train=half, runner={"type": "isolated"}, resources={"gpus_per_worker": 1})
    assert isinstance(choose_runner(on_gpu).runner, Isolated)


def test_float16_is_refused_for_a_base_whose_activations_it_does_not_hold(experiment) -> None:
    with pytest.raises(InputError, match="float16 does not hold the activations of gemma3"):
        choose_runner(experiment(train={"dtype": "float16"}, config={"model_type": "gemma3"}))
