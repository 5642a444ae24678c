"""The lane's loop is TRL's SFTTrainer, as isolated trials have it, on the same rows, order and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from raytune_ft.training.lane.checkpoint import Checkpoint, write_checkpoint

STEPS = 30


def trl_losses(world: Any, start: Path, **changes: Any) -> tuple[list[float], float]:
    """Loss of each step, and eval_loss at the end; leaves the first adapter as a checkpoint at `start`."""
    from datasets import load_from_disk
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, ProgressCallback
    from trl.trainer.sft_config import SFTConfig

    from raytune_ft.objectives.trl.answer_trainer import AnswerTrainer

    train = world.experiment.train
    model = AutoModelForCausalLM.from_pretrained(world.experiment.base_model, dtype="float32")
    torch.manual_seed(0)  # the first adapter is the same whichever tests ran before
    model = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear", **changes)
    )
    weights = {
        name.replace(".default", ""): value.detach().clone()
        for name, value in model.state_dict().items()
        if "lora_" in name
    }
    trainer_state = {"step": 0, "tokens": 0, "seconds": 0.0, "report": {"eval_loss": None}}
    write_checkpoint(start, Checkpoint(weights, {}, {}, trainer_state))
    arguments = SFTConfig(
        output_dir=str(start.parent / "trl"),
        learning_rate=train.learning_rate,
        per_device_train_batch_size=train.per_device_train_batch_size,
        per_device_eval_batch_size=train.per_device_eval_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        max_steps=STEPS,
        lr_scheduler_type=train.lr_scheduler_type,
        warmup_steps=train.warmup_steps,
        weight_decay=train.weight_decay,
        bf16=False,
        gradient_checkpointing=False,
        seed=0,
        data_seed=0,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
    )
    trainer = AnswerTrainer(
        model=model,
        args=arguments,
        train_dataset=load_from_disk(str(world.run.data / "train")),
        eval_dataset=load_from_disk(str(world.run.data / "validation")),
        processing_class=AutoTokenizer.from_pretrained(world.experiment.base_model),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return losses, float(trainer.evaluate()["eval_loss"])


@pytest.mark.parametrize(
    "train",
    [
        {"learning_rate": 5e-3, "per_device_eval_batch_size": 5},
        {
            "learning_rate": 5e-3,
            "per_device_train_batch_size": 3,  # the epoch does not divide
            "gradient_accumulation_steps": 2,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 4,
            "weight_decay": 0.1,
        },
    ],
    ids=["plain", "accumulated"],
)
def test_thirty_steps_in_float32_give_the_losses_of_trls_trainer(lane_world, tmp_path, train: dict[str, Any]) -> None:
    world = lane_world(train={"max_steps": STEPS, "eval_steps": 1, **train})
    expected, expected_eval = trl_losses(world, tmp_path / "step-000000")
    world.lane(world.start("0000", copy_from=tmp_path / "step-000000"))
    found = world.losses("0000")
    assert [loss for _, loss, _ in found] == pytest.approx(expected, rel=1e-4)  # 1e-2 is what we promise
    assert found[-1][2] == pytest.approx(expected_eval, rel=1e-4)
    assert expected[-1] < 0.7 * expected[0]  # it trained
