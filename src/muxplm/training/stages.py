"""The three stages of the paper's recipe (Figure 1): priming, pre-training, fine-tuning."""

import random
import shutil
import time
from itertools import product
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.data import Subset

from muxplm.data.collation import (
    COLLATORS,
    Blocks,
    PadRows,
    collate_retrieval,
    tokenize_task,
)
from muxplm.data.prepare import read_blocks, read_task, read_tokenizer
from muxplm.evaluation.language_modeling import evaluate_blocks
from muxplm.model_config import model_config
from muxplm.models.build import check_vocabulary, load_config, load_model, new_model
from muxplm.models.released.dialect import finetuning_changes
from muxplm.tasks import TASKS
from muxplm.training.trainer import discard, save, train

SEED = 1  # of priming and pre-training; the paper trains each model once
# Validation blocks whose loss is followed. Every N of the paper divides it; more of them would cost
# more than 2 % of the default preset's shortest training.
FOLLOWED = 120


def prime(settings, name: str):
    """Token retrieval from fresh weights: the model learns to keep N inputs apart."""
    variant, tokenizer = settings.variants[name], read_tokenizer(settings)
    torch.manual_seed(SEED)
    model = new_model("retrieval", model_config(settings, variant, tokenizer))
    _train_on_blocks(settings, name, "prime", "retrieval", model, collate_retrieval)


def pretrain(settings, name: str):
    """Masked language modelling or replaced-token detection, multiplexed if the variant is."""
    variant, tokenizer = settings.variants[name], read_tokenizer(settings)
    objective = variant.recipe.objective
    torch.manual_seed(SEED)
    if before := settings.checkpoint_before("pretrain", name):
        folder = Path(before).parent
        model = load_model(objective, folder, retrieval_weight=variant.retrieval_rate)
    else:
        model = new_model(objective, model_config(settings, variant, tokenizer))
    if model.config.model_type == "bert":
        score_masked_positions_only(model)
    rate = settings.training("pretrain", name).mask_rate
    collate = COLLATORS[objective](tokenizer, rate)
    _train_on_blocks(settings, name, "pretrain", objective, model, collate)


def _train_on_blocks(settings, name, stage, objective, model, collate):
    training = settings.training(stage, name)
    recipe = settings.recipe(stage, name)
    scratch = settings.paths.scratch_folder(stage, name, recipe)
    n = settings.variants[name].n
    validation = Blocks(read_blocks(settings, "validation"))
    followed = random.Random(SEED).sample(range(len(validation)), min(FOLLOWED, len(validation)))
    start = time.perf_counter()
    log, validation_log = train(
        model,
        Blocks(read_blocks(settings, "train")),
        collate,
        training,
        steps=training.steps,
        instances=n,
        seed=SEED,
        precision=settings.precision,
        scratch=scratch,
        title=f"{stage} {name}",
        validation=Subset(validation, followed),
    )
    seconds = time.perf_counter() - start
    scores = evaluate_blocks(model, objective, validation, collate, n, settings.precision)
    print(f"{stage} {name}: {scores}, {seconds:.0f} s", flush=True)
    save(
        model,
        Path(settings.paths.checkpoint(stage, name)).parent,
        {
            "stage": stage,
            "model": name,
            "recipe": recipe,
            "seconds": seconds,
            "positions_per_step": training.rows * training.accumulation * settings.max_length,
            "validation": scores,
            "log": log,
            "validation_log": validation_log,
        },
    )
    discard(scratch)


def finetune(settings, name: str, tasks, seeds):
    """Every task under every training seed. A killed job keeps the cells it had finished."""
    recipe = settings.recipe("finetune", name, tasks, seeds)
    scratch = Path(settings.paths.scratch_folder("finetune", name, recipe))
    tokenizer = read_tokenizer(settings)
    for task_name in tasks:
        data = read_task(task_name, settings)["train"]
        rows = tokenize_task(TASKS[task_name], data, tokenizer, settings.task_length)
        for seed in seeds:
            done = _done(scratch, task_name, seed)
            if not done.exists():
                record = {"recipe": recipe, "task": task_name, "training_seed": seed}
                _finetune_cell(settings, name, rows, tokenizer, record, done)
    for task_name, seed in product(tasks, seeds):
        folder = Path(settings.paths.finetuned(name, task_name, seed)).parent
        shutil.copytree(_done(scratch, task_name, seed), folder, dirs_exist_ok=True)
    discard(scratch)


def _done(scratch: Path, task_name: str, seed: int) -> Path:
    return scratch / f"{task_name}-seed{seed}-done"


def _finetune_cell(settings, name, rows, tokenizer, record, folder):
    task, seed = TASKS[record["task"]], record["training_seed"]
    variant, training = settings.variants[name], settings.training("finetune", name)
    torch.manual_seed(seed)
    changes = label_names(task)
    if variant.recipe.multiplexed:
        changes["retrieval_weight"] = variant.recipe.finetune_retrieval
    before = Path(settings.checkpoint_before("finetune", name)).parent
    if variant.recipe.multiplexed and (settings.released or variant.dialect == "released"):
        changes["padded_length"] = settings.task_length
        changes |= finetuning_changes(load_config(before))
    model = load_model(task.kind, before, **changes)
    check_vocabulary(model, tokenizer, before)
    if task.kind == "regression":
        start_from_mean(model, [row["labels"] for row in rows])
    start, scratch = time.perf_counter(), folder.with_name(f"{task.name}-seed{seed}")
    log, _ = train(
        model,
        rows,
        PadRows(tokenizer.pad_token_id, changes.get("padded_length")),
        training,
        steps=training.steps[task.name],
        instances=variant.n,
        seed=seed,
        precision=settings.precision,
        scratch=scratch,
        title=f"finetune {name} {task.name} seed {seed}",
    )
    seconds = time.perf_counter() - start
    save(
        model, folder, {"stage": "finetune", "model": name, "seconds": seconds, "log": log} | record
    )
    discard(scratch)


def label_names(task) -> dict:
    """What a model's config says of its outputs."""
    if not task.labels:
        return {"num_labels": 1, "problem_type": "regression"}
    names = dict(enumerate(task.labels))
    return {"id2label": names, "label2id": {name: i for i, name in names.items()}}


@torch.no_grad()
def start_from_mean(model, labels):
    """Sets a regression head's bias to the mean label, which Adam would take hundreds of steps for."""
    head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    head.bias.fill_(sum(labels) / len(labels))


def score_masked_positions_only(model):
    """Makes BertForMaskedLM score the labelled positions alone, as the multiplexed models do.

    The loss is the same; six in seven of the vocabulary-sized logits are never made. ModernBERT has
    this built in (sparse_prediction).
    """
    full_forward = model.forward

    def forward(input_ids, attention_mask=None, labels=None):
        if labels is None:
            return full_forward(input_ids=input_ids, attention_mask=attention_mask)
        hidden = model.bert(input_ids, attention_mask).last_hidden_state  # (R, L, H)
        masked = labels != -100  # (R, L)
        logits = model.cls(hidden[masked])  # (M, V)
        return {"loss": F.cross_entropy(logits.float(), labels[masked]), "logits": logits}

    model.forward = forward
