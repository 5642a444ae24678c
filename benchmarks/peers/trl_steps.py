"""TRL's SFTTrainer, step by step, on rows that are tokenised already, in the order it takes them.

Arguments: the job, a JSON file; where to write the seconds of each step and the logged losses.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from datasets import load_from_disk
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer


class Clock(TrainerCallback):
    """When each step was done; the time between two is a step with its collation and bookkeeping."""

    def __init__(self) -> None:
        self.done: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.done.append(time.perf_counter())


def main(job: dict[str, Any], result: Path) -> None:
    torch.set_num_threads(job["threads"])
    fastest = job["fastest"]
    clock = Clock()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            job["base"],
            dtype=getattr(torch, job["dtype"]) if fastest else torch.float32,
            attn_implementation="eager" if fastest else "sdpa",
        ),
        args=SFTConfig(
            output_dir="trainer",
            learning_rate=job["learning_rate"],
            per_device_train_batch_size=job["batch"],
            max_steps=job["steps"],
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            lr_scheduler_type="constant",
            gradient_checkpointing=False,
            bf16=job["dtype"] == "bfloat16",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            logging_first_step=True,
            disable_tqdm=True,
            seed=job["seed"],
            data_seed=job["seed"],
        ),
        train_dataset=load_from_disk(f"{job['data']}/train"),
        processing_class=AutoTokenizer.from_pretrained(job["base"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=job["r"], lora_alpha=job["alpha"], target_modules="all-linear"),
        callbacks=[clock],
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    seconds = [after - before for before, after in pairwise(clock.done)]
    result.write_text(json.dumps({"seconds": seconds, "losses": losses}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).resolve())
