"""`eval_loss` is the mean over the answers' tokens: batches, runners and workers do not move it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import with_parameters
from raytune_ft.data.arrow_rows import ArrowRows
from raytune_ft.paths import RunDirectory
from raytune_ft.training.isolated import reporting_callback, worker
from raytune_ft.training.lane.evaluate import evaluate, evaluate_base
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.lane.step import Stepper
from raytune_ft.training.lane.trial import RunningTrial, Splits
from raytune_ft.training.spec import TrialSpec

BATCH = "train.per_device_eval_batch_size"


@pytest.fixture
def uneven(lane_world, tmp_path: Path) -> Any:
    """A world whose answers are of 1 to 12 tokens, the long ones in few batches; 31 rows, which nothing divides."""
    data: dict[str, Any] = {"max_length": 64}
    for split, numbers in {"train": range(64), "validation": range(64, 95)}.items():
        rows = [
            {"prompt": f"Swim {n}:", "completion": (" no" if n % 2 else " yes") * (1 + n // 8 % 6)} for n in numbers
        ]
        data[split] = str(tmp_path / f"uneven-{split}.jsonl")
        Path(data[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lane_world(data=data, train={"max_steps": 2, "eval_steps": 2})


class OneOfTwo(Ranks):
    """A rank that hears nothing of the other one."""

    def agree(self, reason: str | None) -> str | None:
        return reason

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def token_mean(experiment: Experiment, run: RunDirectory) -> float:
    """Of the base, row by row."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(experiment.base_model, dtype=torch.float32)
    rows, losses = ArrowRows(run.data / "validation"), []
    with torch.no_grad():
        for row in range(len(rows)):
            ids, labels = (torch.from_numpy(each.copy()).long() for each in rows[row])
            logits = model(ids[None]).logits[0, :-1]
            losses.append(torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="none"))
    return float(torch.cat(losses).sum()) / int(rows.answers.sum())


@pytest.mark.parametrize("batch", [1, 3, 16, 31])
def test_a_lanes_is_the_token_mean_with_any_batch(uneven, batch: int) -> None:
    splits = Splits(ArrowRows(uneven.run.data / "train"), ArrowRows(uneven.run.data / "validation"))
    start = uneven.start("0000", **{BATCH.replace(".", "__"): batch})
    trial = RunningTrial(start.spec, uneven.base, splits, Ranks(), None)  # its adapter changes nothing yet
    stepper, expected = Stepper(uneven.base, uneven.settings.step), token_mean(uneven.experiment, uneven.run)
    assert evaluate(stepper, trial, Ranks()) == pytest.approx(expected, rel=1e-5)
    assert evaluate_base(stepper, trial, Ranks()) == pytest.approx(expected, rel=1e-5)
    shares = [evaluate(stepper, trial, OneOfTwo(rank, 2)) for rank in (0, 1)]
    assert sum(shares) == pytest.approx(expected, rel=1e-5)


@dataclass(frozen=True)
class Context:
    """Ray Train's on one of several workers."""

    rank: int = 0
    size: int = 1

    def get_world_rank(self) -> int:
        return self.rank

    get_local_rank = get_world_rank

    def get_world_size(self) -> int:
        return self.size


def isolated_losses(experiment: Experiment, root: Path, name: str, batch: int, context: Context) -> list[float]:
    """The base's and, after two steps, the trial's; of TRL's trainer as the isolated worker makes it."""
    run = RunDirectory(root)
    spec = TrialSpec.of(name, {}, with_parameters(experiment, {BATCH: batch}), run)
    spec.directory.root.mkdir(parents=True, exist_ok=True)
    reporting_callback.ray.train.get_context = lambda: context  # type: ignore[attr-defined]
    callback = reporting_callback.ReportingCallback(spec, None, 0.0)
    trainer = worker._trainer(spec, root / f"{name}-local", callback, measure_base=True)
    callback.on_save = lambda *_, **__: None  # type: ignore[method-assign]
    trainer.train()
    assert callback.guard.base_loss is not None and callback.leading is not None
    return [callback.guard.base_loss, callback.leading]


def test_an_isolated_trials_is_the_token_mean_with_any_batch_and_a_lanes(
    uneven, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting_callback.ray.train, "get_context", Context)
    expected = token_mean(uneven.experiment, uneven.run)
    found = [isolated_losses(uneven.experiment, uneven.run.root, f"100{b}", b, Context()) for b in (3, 16)]
    for base, trained in found:
        assert base == pytest.approx(expected, rel=1e-5)
        assert trained == pytest.approx(found[0][1], rel=1e-5)
    assert json.loads(uneven.run.base_loss.read_text())["metrics"]["eval_loss"] == pytest.approx(expected, rel=1e-5)


def _rank(rank: int, size: int, experiment: str, root: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    port = str(28500 + os.getppid() % 1000)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    dist.init_process_group("gloo", rank=rank, world_size=size)
    loaded = Experiment.model_validate_json(experiment)
    found = isolated_losses(loaded, Path(root), "2000", 3, Context(rank, size))
    (Path(root) / f"losses-{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)  # gloo's threads abort a process now and then that takes its group down


def test_two_workers_of_an_isolated_trial_count_each_token_once(uneven) -> None:
    """31 rows: the last batch is filled up with rows that were there before."""
    torch.multiprocessing.spawn(_rank, (2, uneven.experiment.model_dump_json(), str(uneven.run.root)), nprocs=2)
    expected = token_mean(uneven.experiment, uneven.run)
    both = [json.loads((uneven.run.root / f"losses-{rank}.json").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]
    assert both[0][0] == pytest.approx(expected, rel=1e-5)
