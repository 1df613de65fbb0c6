"""One training run over transformers' Trainer: settings to arguments, resuming, logging, recording."""

import json
import shutil
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from muxplm.files import DataError
from muxplm.precision import use_bf16

transformers.logging.set_verbosity_error()
if not sys.stderr.isatty():
    transformers.logging.disable_progress_bar()  # a log file wants lines, not bars


EVALUATIONS = 8  # in the course of a training, evenly spaced; the last one at its end
EVALUATION_SEED = 0


def train(
    model,
    dataset,
    collate,
    training,
    *,
    steps,
    instances,
    seed,
    precision,
    scratch,
    title,
    validation=None,
):
    """Trains `model` in place and returns the logs of the training and of the validation loss.

    Both are lists of {"step", "loss", ...}; the second is empty without a `validation` data set.
    training: a `Training` or `Finetuning` section. A step sees training.rows sequences per encoder
    pass, that is rows * instances rows of `dataset`, times training.accumulation. Checkpoints go to
    `scratch`; a run that was killed goes on from the last of them.
    """
    set_seed(seed)
    devices = max(1, torch.cuda.device_count())
    if training.rows % devices:
        raise DataError(f"rows: {training.rows} is not a multiple of the {devices} GPUs in use")
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=training.rows // devices * instances,
        per_device_eval_batch_size=training.rows // devices * instances,  # whole groups of N
        eval_strategy="steps" if validation else "no",
        eval_steps=1 / EVALUATIONS,
        prediction_loss_only=True,
        gradient_accumulation_steps=training.accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(training.warmup * steps),
        weight_decay=training.weight_decay,
        adam_epsilon=training.adam_epsilon,
        bf16=use_bf16(precision),
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        # Trainer also saves at the end, which a training too short to resume has no use for.
        save_strategy="steps" if steps > training.save_every else "no",
        save_steps=training.save_every,
        save_total_limit=1,
        logging_steps=max(10, steps // 20),
        disable_tqdm=not sys.stderr.isatty(),
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
    )
    trainer = RepeatableTrainer(
        model,
        arguments,
        train_dataset=dataset,
        eval_dataset=validation,
        data_collator=collate,
        callbacks=[LogLines(title, steps)],
    )
    trainer.remove_callback(PrinterCallback)
    last = last_whole_checkpoint(scratch)
    try:
        trainer.train(resume_from_checkpoint=last)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        if last and trainer.state.global_step == 0:
            raise DataError(
                f"checkpoint {last} cannot be resumed ({' '.join(str(error).split())[:200]}): "
                "delete it to start this training again"
            ) from None
        raise
    history = trainer.state.log_history
    evaluated = [entry for entry in history if "eval_loss" in entry]
    return (
        [entry for entry in history if "loss" in entry],
        [{"step": entry["step"], "loss": entry["eval_loss"]} for entry in evaluated],
    )


class RepeatableTrainer(Trainer):
    """Each evaluation draws the same masks and instances, and training none the less its own."""

    def evaluate(self, *args, **kwargs):
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(EVALUATION_SEED)
            return super().evaluate(*args, **kwargs)


def last_whole_checkpoint(scratch) -> str | None:
    """The newest checkpoint whose writing was not cut short; any that was is removed."""
    while Path(scratch).is_dir() and (last := get_last_checkpoint(scratch)):
        try:
            json.loads((Path(last) / TRAINER_STATE_NAME).read_text())  # Trainer writes it last
            return last
        except (FileNotFoundError, json.JSONDecodeError):
            shutil.rmtree(last)
    return None


class LogLines(TrainerCallback):
    """One plain line per log entry; a terminal gets Trainer's progress bar beside it."""

    def __init__(self, title, steps):
        self.title, self.steps, self.start = title, steps, time.perf_counter()

    def on_log(self, args, state, control, logs=None, **kwargs):
        for key, name in (("loss", "loss"), ("eval_loss", "validation loss")):
            if key in logs:
                seconds = time.perf_counter() - self.start
                print(
                    f"{self.title}: step {state.global_step}/{self.steps}, {name} "
                    f"{float(logs[key]):.3f}, {seconds:.0f} s",
                    flush=True,
                )


def discard(scratch):
    """Removes a finished training's checkpoints."""
    shutil.rmtree(scratch, ignore_errors=True)
