"""What every method does alike; a new one passes this by being in `ROOMS`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from raytune_ft.config.methods.choice import METHODS
from raytune_ft.data.base_model import check_base_model
from raytune_ft.data.safetensors_header import read_header
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.execution.runner import choose_runner
from raytune_ft.methods.rooms import ROOMS
from raytune_ft.methods.weights.peft_files import ADAPTER_CONFIG
from raytune_ft.methods.weights.tuned import is_adapter, load_tuned, tuned_files, with_adapter
from raytune_ft.paths import read_json
from raytune_ft.search.planning.memory.weights import worker_memory

NAMES = sorted(ROOMS)


def test_each_method_has_facts_and_functions() -> None:
    assert METHODS.keys() == ROOMS.keys()


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(3, 23)[None]).logits.float()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_trial_leaves_gives_the_same_logits(name: str, experiment_of, train, tmp_path: Path) -> None:
    trained = train(experiment_of(method=name))
    left, room = tmp_path / "left", ROOMS[name]
    trained.trainer.save_model(str(left))
    facts = room.check(left, trained.experiment.base_model, may_be_merged=False)
    assert facts.artefact == METHODS[name].artefact and is_adapter(left) == (facts.artefact == "adapter")
    if METHODS[name].base_loaded == "as_it_is":
        again = load_tuned(trained.experiment, left)
    else:
        again = with_adapter(room.load(trained.experiment), left)
        for parameter, moved in zip(again.parameters(), trained.trainer.model.parameters(), strict=True):
            parameter.data = parameter.data.to(moved.dtype)  # PEFT loads adapters in float32
    torch.testing.assert_close(logits(again), logits(trained.trainer.model), rtol=1e-4, atol=1e-4)
    base = room.load(trained.experiment)
    assert (logits(base) - logits(again)).abs().max() > 1e-2  # it says something else than the base
    config = read_json(left / ADAPTER_CONFIG) if facts.artefact == "adapter" else {}
    assert room.words(config)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_artefact_is_refused(name: str, experiment_of, train, tmp_path: Path) -> None:
    trained = train(experiment_of(method=name, train={"max_steps": 1, "dtype": "float32"}))
    left = tmp_path / "left"
    trained.trainer.save_model(str(left))
    weights = tuned_files(left)[0]
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(IntegrityError):
        ROOMS[name].check(left, trained.experiment.base_model, may_be_merged=False)


@pytest.mark.parametrize("name", NAMES)
def test_plan_knows_the_bytes_of_its_tensors(name: str, experiment_of, train) -> None:
    trained = train(experiment_of(method=name, train={"max_steps": 2, "dtype": "float32", "learning_rate": 1e-3}))
    model, experiment = trained.trainer.model, trained.experiment
    moving = [each for each in model.parameters() if each.requires_grad]
    counted = {
        "base": sum(map(_bytes, (each for each in model.parameters() if not each.requires_grad))),
        "trained": sum(map(_bytes, moving)),
        "state": sum(_bytes(each) for state in trained.trainer.optimizer.state.values() for each in state.values()),
    }
    isolated = experiment_of(method=name, runner={"type": "isolated"})
    memory = worker_memory(isolated, isolated.runner)
    assert memory is not None
    planned = memory.base_bytes + (memory.adapter_bytes or 0)
    assert planned == pytest.approx(counted["base"] + counted["trained"], rel=0.25)
    assert memory.gradient_bytes == pytest.approx(counted["trained"], rel=0.25)
    assert memory.optimizer_bytes == pytest.approx(counted["state"], rel=0.25)
    tensors = read_header(Path(experiment.base_model) / "model.safetensors")
    assert ROOMS[name].parameters(experiment.method, tensors) == sum(each.numel() for each in moving)


def _bytes(tensor: torch.Tensor) -> int:
    own = tensor.numel() * tensor.element_size()
    state = getattr(tensor, "quant_state", None)
    if state is None:
        return own
    scales = [state.absmax, state.code, state.state2.absmax, state.state2.code]
    return own + sum(each.numel() * each.element_size() for each in scales)


@pytest.mark.parametrize("name", NAMES)
def test_a_lane_trains_it_or_says_why_not(name: str, experiment_of) -> None:
    reason = METHODS[name].not_on_lanes
    if reason is None:
        assert choose_runner(experiment_of(method=name)).runner.type == "lane"
        return
    assert choose_runner(experiment_of(method=name)).reason == reason
    with pytest.raises(InputError, match="type lane can't serve"):
        choose_runner(experiment_of(method=name, runner={"type": "lane"}))


@pytest.mark.parametrize("name", NAMES)
def test_check_refuses_a_quantized_base_where_it_can_train_on_none(name: str, experiment_of, tmp_path: Path) -> None:
    base = Path(shutil.copytree(experiment_of().base_model, tmp_path / "quantized"))
    config = read_json(base / "config.json")
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    experiment = experiment_of(method=name, base_model=str(base))
    if METHODS[name].takes_quantized:
        check_base_model(experiment)
        return
    with pytest.raises(InputError, match=f"{name} can't train on .*, which is quantized"):
        check_base_model(experiment)


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_vllm_cant_load_ask_for_a_merge(name: str, experiment_of) -> None:
    for setting in METHODS[name].merged_with:
        with pytest.raises(InputError, match=rf"method\.{setting} true makes an adapter that vLLM can't load"):
            experiment_of(method=name, promotion={"merge": "never"}, settings={setting: True})


@pytest.mark.parametrize("name", NAMES)
def test_its_default_learning_rate_follows_from_loras(name: str, experiment_of) -> None:
    rate = experiment_of(method=name, train={"max_steps": 2}).train.learning_rate
    assert rate == pytest.approx(2e-4 * METHODS[name].rate)
