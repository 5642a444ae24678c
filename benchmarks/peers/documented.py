"""Ray's documented pattern, written plainly: Tune asks Optuna, a trial is a TorchTrainer with TRL's SFTTrainer in it.

After the guides "Hyperparameter Tuning with Ray Tune" and "Get Started with Distributed Training using Hugging Face
Transformers" of Ray's documentation. Arguments: the job, a JSON file; where to write the trials' losses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.huggingface.transformers
import ray.tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search.optuna import OptunaSearch


def train_fn_per_worker(config: dict[str, Any]) -> None:
    from datasets import load_dataset
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    job = config["job"]
    rows = load_dataset("json", data_files={"train": job["train"], "validation": job["validation"]})
    trainer: Any = SFTTrainer(
        model=job["base"],
        args=SFTConfig(
            output_dir="trainer",
            learning_rate=config["learning_rate"],
            per_device_train_batch_size=job["batch"],
            per_device_eval_batch_size=job["evaluation_batch"],
            max_steps=job["steps"],
            max_length=job["max_length"],
            eval_strategy="steps",
            eval_steps=job["steps"],
            save_strategy="steps",
            save_steps=job["steps"],
            lr_scheduler_type="constant",
            gradient_checkpointing=False,  # TRL's default is True: slower, and no memory is short here
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            seed=job["seed"],
        ),
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=config["r"], lora_alpha=job["alpha"], target_modules="all-linear"
        ),
    )
    trainer.add_callback(ray.train.huggingface.transformers.RayTrainReportCallback())
    trainer = ray.train.huggingface.transformers.prepare_trainer(trainer)
    trainer.train()


def train_driver_fn(config: dict[str, Any]) -> None:
    callbacks: list[Any] = [TuneReportCallback()]
    trainer = TorchTrainer(
        train_fn_per_worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": config["job"]["threads"]}),
        run_config=ray.train.RunConfig(
            name=f"train-trial_id={ray.tune.get_context().get_trial_id()}",
            storage_path=config["job"]["storage"],
            callbacks=callbacks,
        ),
    )
    trainer.fit()


def main(job: dict[str, Any], result: Path) -> None:
    ray.init(address="local", num_cpus=job["threads"] + 1)  # the trial's own process takes one, as Tune does by default
    search = OptunaSearch(metric="eval_loss", mode="min", points_to_evaluate=job["trials"])
    tuner = ray.tune.Tuner(
        train_driver_fn,
        param_space={
            "job": job,
            "learning_rate": ray.tune.loguniform(1e-4, 3e-3),
            "r": ray.tune.choice(job["ranks"]),
        },
        tune_config=ray.tune.TuneConfig(search_alg=search, num_samples=len(job["trials"]), max_concurrent_trials=1),
        run_config=ray.tune.RunConfig(name="tune", storage_path=job["storage"]),
    )
    trials = tuner.fit()
    ended = [trials[number].metrics or {} for number in range(len(trials))]
    result.write_text(json.dumps([metrics["eval_loss"] for metrics in ended]))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).resolve())
