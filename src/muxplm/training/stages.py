"""The three stages of the paper's recipe (Figure 1): priming, pre-training, fine-tuning."""

import random
import sys

import torch
import transformers

from muxplm import lineage, recipes, trained
from muxplm.data.collation import COLLATORS, PadRows, collate_retrieval, tokenize_task
from muxplm.data.prepare import read_blocks, read_tokenizer
from muxplm.data.rows import read_task
from muxplm.evaluation.language_modeling import evaluate_blocks
from muxplm.model_config import model_config
from muxplm.models.build import check_vocabulary, load_config, load_model, new_model
from muxplm.models.first_positions import read_first_positions
from muxplm.models.released.dialect import finetuning_changes
from muxplm.tasks import TASKS
from muxplm.training.checkpoints import alone, discard
from muxplm.training.loop import train
from muxplm.training.processes import is_first, join

# Validation blocks whose loss is followed. Every N of the paper divides it; more of them would cost
# more than 2 % of the default preset's shortest training.
FOLLOWED = 120
FOLLOWED_SEED = 1

transformers.logging.set_verbosity_error()
if not sys.stderr.isatty():
    transformers.logging.disable_progress_bar()  # a log file wants lines, not bars


def prime(settings, name: str):
    """Token retrieval from fresh weights: the model learns to keep N inputs apart.

    Variants that are primed alike share the weights, under the name of the first of them.
    """
    name = lineage.trained_as(settings, "prime", name)
    variant, tokenizer = settings.variants[name], read_tokenizer(settings)
    torch.manual_seed(variant.pretraining_seed)
    model = new_model("retrieval", model_config(settings, variant, tokenizer))
    _train_on_blocks(settings, name, "prime", "retrieval", model, collate_retrieval)


def pretrain(settings, name: str):
    """Masked language modelling or replaced-token detection, multiplexed if the variant is."""
    variant, tokenizer = settings.variants[name], read_tokenizer(settings)
    objective = variant.recipe.objective
    torch.manual_seed(variant.pretraining_seed)
    if before := lineage.origin(settings, "pretrain", name):
        model = load_model(objective, before.folder, True, retrieval_weight=variant.retrieval_rate)
    else:
        model = new_model(objective, model_config(settings, variant, tokenizer))
    rate = settings.training("pretrain", name).mask_rate
    collate = COLLATORS[objective](tokenizer, rate)
    _train_on_blocks(settings, name, "pretrain", objective, model, collate)


def _train_on_blocks(settings, name, stage, objective, model, collate):
    recipe = {"prime": recipes.prime, "pretrain": recipes.pretrain}[stage](settings, name)
    path = settings.paths.checkpoint(stage, name)
    scratch = settings.paths.scratch_folder(stage, name, recipes.digest(recipe))
    with alone(scratch):
        if _is_there(path, recipe, scratch):
            print(f"{stage} {name}: {path} is current", flush=True)
            return
        _train_and_save(settings, name, stage, objective, model, collate, path, recipe, scratch)


def _is_there(path, recipe, scratch) -> bool:
    """Whether the weights are; whoever was killed after writing them may have left its checkpoints."""
    there = trained.adopt(path, recipe)
    if there:
        discard(scratch)
    return there


def _train_and_save(settings, name, stage, objective, model, collate, path, recipe, scratch):
    training, variant = settings.training(stage, name), settings.variants[name]
    validation = read_blocks(settings, "validation")
    followed = random.Random(FOLLOWED_SEED).sample(
        range(len(validation)), min(FOLLOWED, len(validation))
    )
    model.sparse_prediction = True  # validation, too, needs no logits but those that its loss reads
    log, validation_log, seconds = train(
        model,
        read_blocks(settings, "train"),
        collate,
        training,
        steps=training.steps,
        instances=variant.n,
        seed=variant.pretraining_seed,
        precision=settings.precision,
        scratch=scratch,
        title=f"{stage} {name}",
        validation=validation[followed],
    )
    if not is_first():
        return
    scores = evaluate_blocks(model, objective, validation, collate, variant.n, settings.precision)
    print(f"{stage} {name}: {scores}, {seconds:.0f} s", flush=True)
    record = {
        "stage": stage,
        "model": name,
        "seconds": seconds,
        "processes": join().count,
        "positions_per_step": training.rows * training.accumulation * settings.max_length,
        "validation": scores,
        "log": log,
        "validation_log": validation_log,
    }
    trained.save(model, path, recipe, record)
    discard(scratch)


def finetune(settings, name: str, tasks, seeds):
    """Every task under every training seed. Cells that are there already are left as they are."""
    for cell in cells_left(settings, name, tasks, seeds):
        _finetune_cell(settings, name, *cell)


def cells_left(settings, name: str, tasks, seeds):
    """Of a variant's cells those not there: task, seed, rows, tokenizer, path, recipe and scratch.

    While one is in hand, no other process trains it.
    """
    tokenizer, stage = read_tokenizer(settings), settings.variants[name].last_stage
    for task_name in tasks:
        wanted = {seed: _cell(settings, stage, name, task_name, seed) for seed in seeds}
        left = [seed for seed, cell in wanted.items() if not _is_there(*cell)]
        print(f"{stage} {name} {task_name}: {len(left)} of {len(seeds)} to train", flush=True)
        if not left:
            continue
        data = read_task(task_name, "train", settings)
        rows = tokenize_task(TASKS[task_name], data, tokenizer, settings.task_length)
        for seed in left:
            path, recipe, scratch = wanted[seed]
            with alone(scratch):
                if not _is_there(path, recipe, scratch):
                    yield task_name, seed, rows, tokenizer, path, recipe, scratch


def _cell(settings, stage: str, name: str, task_name: str, seed: int) -> tuple[str, dict, str]:
    """Where it goes, its recipe and its scratch."""
    recipe = recipes.cell(settings, name, task_name, seed)
    title = f"{name}-{task_name}-seed{seed}"
    scratch = settings.paths.scratch_folder(stage, title, recipes.digest(recipe))
    return settings.paths.finetuned(name, task_name, seed), recipe, scratch


def _finetune_cell(settings, name, task_name, seed, rows, tokenizer, path, recipe, scratch):
    task = TASKS[task_name]
    variant, training = settings.variants[name], settings.training("finetune", name, task_name)
    torch.manual_seed(seed)
    changes = label_names(task)
    if variant.recipe.multiplexed:
        changes["retrieval_weight"] = variant.recipe.finetune_retrieval
    before = lineage.origin(settings, "finetune", name, task_name, seed).folder
    if variant.recipe.multiplexed and (settings.released or variant.dialect == "released"):
        changes["padded_length"] = settings.task_length
        changes |= finetuning_changes(load_config(before))
    model = load_model(task.kind, before, True, **changes)
    check_vocabulary(model, tokenizer, before)
    if task.kind != "tagging":
        read_first_positions(model)
    if task.kind == "regression":
        start_from_mean(model, [row["labels"] for row in rows])
    log, _, seconds = train(
        model,
        rows,
        PadRows(tokenizer.pad_token_id, changes.get("padded_length")),
        training,
        steps=training.steps,
        instances=variant.n,
        seed=seed,
        precision=settings.precision,
        scratch=scratch,
        title=f"finetune {name} {task.name} seed {seed}",
    )
    if is_first():
        record = {"stage": "finetune", "model": name, "task": task_name, "training_seed": seed}
        record |= {"seconds": seconds, "processes": join().count, "log": log}
        trained.save(model, path, recipe, record)
        discard(scratch)


def label_names(task) -> dict:
    """What a model's config says of its outputs."""
    if not task.labels:
        return {"num_labels": 1, "problem_type": "regression"}
    names = dict(enumerate(task.labels))
    described = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    if task.kind == "classification":  # else the first forward pass of some encoders says so
        described["problem_type"] = "single_label_classification"
    return described


@torch.no_grad()
def start_from_mean(model, labels):
    """Sets a regression head's bias to the mean label, which Adam would take hundreds of steps for."""
    head = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    head.bias.fill_(sum(labels) / len(labels))
