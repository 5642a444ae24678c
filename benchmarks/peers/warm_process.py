"""One warm process: Optuna and TRL's SFTTrainer in a loop, the model kept loaded, each trial's adapter taken off again.

No Ray, one machine, no early stopping, nothing survives a crash: what a careful user writes without this package.
Arguments: the job, a JSON file; where to write the trials' losses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import optuna
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer


def main(job: dict[str, Any], result: Path) -> None:
    torch.set_num_threads(job["threads"])
    fastest = job["fastest"]  # else what TRL does by default: a float32 base, autocast to bfloat16, `sdpa`
    base = AutoModelForCausalLM.from_pretrained(
        job["base"],
        dtype=getattr(torch, job["dtype"]) if fastest else torch.float32,
        attn_implementation="eager" if fastest else "sdpa",
    )
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    rows = load_dataset("json", data_files={"train": job["train"], "validation": job["validation"]})

    def objective(trial: optuna.Trial) -> float:
        trainer: Any = SFTTrainer(
            model=base,
            args=SFTConfig(
                output_dir=f"trainer/{trial.number}",
                learning_rate=trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
                per_device_train_batch_size=job["batch"],
                per_device_eval_batch_size=job["evaluation_batch"],
                max_steps=job["steps"],
                max_length=job["max_length"],
                lr_scheduler_type="constant",
                gradient_checkpointing=False,
                bf16=job["dtype"] == "bfloat16",
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                seed=job["seed"],
            ),
            train_dataset=rows["train"],
            eval_dataset=rows["validation"],
            processing_class=tokenizer,
            peft_config=LoraConfig(
                task_type="CAUSAL_LM",
                r=trial.suggest_categorical("r", job["ranks"]),
                lora_alpha=job["alpha"],
                target_modules="all-linear",
            ),
        )
        trainer.train()
        loss = trainer.evaluate()["eval_loss"]
        trainer.save_model()
        if trainer.model.unload() is not base:
            raise RuntimeError("PEFT gave another model back than the one that was wrapped")
        return float(loss)

    study = optuna.create_study(direction="minimize")
    for parameters in job["trials"]:
        study.enqueue_trial(parameters)
    study.optimize(objective, n_trials=len(job["trials"]))
    result.write_text(json.dumps([trial.value for trial in study.trials]))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).resolve())
