"""The stage `prune`: from fine-tuned cells to small ones, which lie where fine-tuned ones do."""

import torch

from muxplm import lineage, trained
from muxplm.data.collation import PadRows
from muxplm.files import read_json
from muxplm.models.build import check_vocabulary, load_model
from muxplm.models.masks import encoder_of, shrink, sparsity
from muxplm.pruning.cofi import CoFi
from muxplm.pruning.distillation import Distilled
from muxplm.pruning.fisher import fisher_masks
from muxplm.tasks import TASKS
from muxplm.training.checkpoints import discard
from muxplm.training.loop import train
from muxplm.training.processes import is_first, join
from muxplm.training.rows import Rows
from muxplm.training.stages import cells_left


def prune(settings, name: str, tasks, seeds):
    """Every task under every training seed; cells that are there already are left as they are."""
    for task_name, seed, rows, tokenizer, path, recipe, scratch in cells_left(
        settings, name, tasks, seeds
    ):
        kind = TASKS[task_name].kind
        before = lineage.origin(settings, "prune", name, task_name, seed).folder
        model = load_model(kind, before)
        check_vocabulary(model, tokenizer, before)
        collate = PadRows(tokenizer.pad_token_id, getattr(model.config, "padded_length", None))
        cell = (settings, name, task_name, seed, rows, collate, recipe, scratch)
        by = {"cofi": _by_cofi, "fisher": _by_fisher}[settings.variants[name].pruner]
        small, record = by(cell, model, before)
        if is_first():
            record = {"model": name, "task": task_name, "training_seed": seed} | record
            trained.save(small, path, recipe, {"stage": "prune"} | record)
            print(
                f"prune {name} {task_name} seed {seed}: sparsity {record['sparsity']:.3f}",
                flush=True,
            )
            discard(scratch)


def _by_fisher(cell, model, before):
    settings, name, _, seed, rows, collate, _, _ = cell
    variant, training = settings.variants[name], settings.training("prune", name)
    stream = Rows(rows, collate, variant.n, seed)
    size = training.rows * variant.n
    batches = (stream.batch(i * size, size)[0] for i in range(training.fisher_passes))
    model.to(join().device)
    masks = fisher_masks(model, batches, variant.sparsity, settings.precision)
    return shrink(model, masks), _structure(masks, encoder_of(model).config, variant)


def _by_cofi(cell, model, before):
    """Masks and weights first, then the small model's weights alone; either goes on when killed."""
    settings, name, task_name, seed, rows, collate, recipe, scratch = cell
    variant, training = settings.variants[name], settings.training("prune", name)
    kind = TASKS[task_name].kind
    teacher, between = load_model(kind, before), f"{scratch}/small/done.json"
    how = {"instances": variant.n, "seed": seed, "precision": settings.precision}
    torch.manual_seed(seed)
    if trained.adopt(between, recipe):
        model = load_model(kind, f"{scratch}/small")
        record = read_json(f"{scratch}/small/{trained.RUN}")["pruning"]
    else:
        cofi = CoFi(model, teacher, kind, variant.sparsity, training, seed)
        log, _, seconds = train(
            cofi,
            rows,
            collate,
            training,
            steps=training.steps[task_name],
            scratch=f"{scratch}/masks",
            title=f"prune {name} {task_name} seed {seed}",
            beside=cofi,
            **how,
        )
        masks, shift = cofi.gates.at_sparsity(variant.sparsity)
        record = _structure(masks, cofi.gates.config, variant) | {"shift": shift}
        record |= {"seconds": seconds, "pruning_log": log}
        model = shrink(model, masks)
        if is_first():
            trained.save(model, between, recipe, {"pruning": record})
    distilled = Distilled(model, teacher, kind, training.layer_weight)
    log, _, seconds = train(
        distilled,
        rows,
        collate,
        training.model_copy(update={"learning_rate": training.final_learning_rate}),
        steps=training.final_steps[task_name],
        scratch=f"{scratch}/final",
        title=f"fine-tune pruned {name} {task_name} seed {seed}",
        **how,
    )
    record = record | {"seconds": record["seconds"] + seconds, "log": log}
    return distilled.student, record


def _structure(masks, config, variant) -> dict:
    """What is left, for run.json: beside the sparsity that was asked for, that which was reached."""
    heads, intermediates = masks.structure
    reached = {"target": variant.sparsity, "sparsity": sparsity(masks, config)}
    return {"pruner": variant.pruner, **reached, "heads": heads, "intermediates": intermediates}
