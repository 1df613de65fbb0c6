"""Fine-tuned models scored under every composition seed.

A composition seed permutes the validation rows; consecutive rows are multiplexed together. Nothing else
differs between two composition seeds, so their spread is the effect of the company a row keeps.
Ensembles and strategies of composition are other orders of the same rows, scored by the same functions.
"""

from pathlib import Path

import torch

from muxplm import files, lineage, recipes, trained
from muxplm.data.collation import PadRows, tokenize_task
from muxplm.data.prepare import read_tokenizer
from muxplm.data.rows import read_task, task_parts
from muxplm.evaluation.metrics import majority, score
from muxplm.files import DataError
from muxplm.grouping import shuffled
from muxplm.models.build import check_vocabulary, load_model
from muxplm.models.first_positions import read_first_positions
from muxplm.precision import autocast, for_inference
from muxplm.tasks import TASKS

GROUPS = 32  # sequences per encoder pass


def write_scores(settings, name: str, tasks, published: bool = False):
    """One summary per task: every training seed under every composition seed.

    published: of the authors' own fine-tuned model, which counts as training seed 0. A task with a
    second validation split (MNLI's mismatched one) has its scores too, apart from the first.
    """
    paths, kind = settings.paths, "published_scores" if published else "score"
    for task_name in tasks:
        task, folders = TASKS[task_name], None
        if published:
            folders = {0: Path(paths.published(name, task_name)).parent}
        train = read_task(task_name, "train", settings)
        first, *others = task_parts(task_name, "validation", settings)
        rows = validation_rows(settings, task, first)
        scores = _under_all_compositions(settings, name, task, rows, folders)
        summary = describe(settings, kind, name, task, rows) | {
            "majority": majority(task, list(train[task.label]), _true_labels(rows)),
            "scores": scores,
        }
        for part in others:
            rows = validation_rows(settings, task, part)
            summary[part] = _under_all_compositions(settings, name, task, rows, folders)
        path = paths.published_scores if published else paths.scores
        files.write_json(path(name, task_name), summary)
        mean = sum(s["metrics"][task.metric] for s in scores) / len(scores)
        print(f"score {name} {task_name}: mean {task.metric} {mean:.3f}", flush=True)


def _under_all_compositions(settings, name, task, rows, folders) -> list[dict]:
    seeds, n = settings.composition_seeds, settings.variants[name].n
    # At N = 1 a row has no company, so no seed can matter: one pass serves all.
    orders = [
        ({"composition_seed": seed}, shuffled(len(rows), seed))
        for seed in (seeds if n > 1 else seeds[:1])
    ]
    scores = score_orders(settings, name, task, rows, orders, folders)
    if n == 1:
        scores = [run | {"composition_seed": seed} for run in scores for seed in seeds]
    return scores


def multiplexed(settings, name: str) -> int:
    """The variant's N; a variant of N = 1 is a DataError, since its rows share no pass."""
    n = settings.variants[name].n
    if n == 1:
        raise DataError(f"{name} has N = 1, so its rows share no pass: name a model with N > 1")
    return n


def validation_rows(settings, task, part: str = "validation") -> list[dict]:
    data = read_task(task.name, part, settings)
    return tokenize_task(task, data, read_tokenizer(settings), settings.task_length)


def describe(settings, kind: str, name: str, task, rows) -> dict:
    """What a summary says before its scores. kind: "score", or another function of `recipes`."""
    recipe = recipes.digest(getattr(recipes, kind)(settings, name, task.name))
    names = {"model": name, "task": task.name, "metric": task.metric}
    how = {"precision": settings.precision_of(name), "made_with": trained.made_with()}
    return {"recipe": recipe, **names, "rows": len(rows), **how}


def score_orders(settings, name: str, task, rows, orders, folders=None) -> list[dict]:
    """Metrics of every training seed's model under every order, each with what describes the order.

    orders: pairs of a description (a dict) and an order (a vector of row numbers, see `predict`).
    folders: where the models lie, by training seed; None: where fine-tuning leaves them.
    """
    labels, n = _true_labels(rows), settings.variants[name].n
    tokenizer = read_tokenizer(settings)
    if folders is None:
        cells = {s: lineage.cell(settings, name, task.name, s) for s in settings.training_seeds}
        folders = {seed: Path(path).parent for seed, path in cells.items()}
    runs, precision = [], settings.precision_of(name)
    for seed, folder in folders.items():
        model = load_model(task.kind, folder)
        check_vocabulary(model, tokenizer, folder)
        if task.kind != "tagging":
            read_first_positions(model)
        model = for_inference(model, precision)
        collate = PadRows(tokenizer.pad_token_id, getattr(model.config, "padded_length", None))
        for description, order in orders:
            predicted = predict(model, task, rows, order.tolist(), n, collate, precision)
            metrics = score(task, predicted, labels)
            runs.append({"training_seed": seed} | description | {"metrics": metrics})
    return runs


def predict(model, task, rows, order, instances: int, collate, precision) -> list:
    """Predictions in the order of `rows`, composed in the order `order`.

    order: row numbers, every row equally often. A row is decided by the mean of its copies' logits.
    """
    totals = [0.0] * len(rows)
    found = row_logits(model, rows, order, instances, collate, precision)
    for i, logits in zip(order, found, strict=True):
        if task.kind == "tagging":  # copies are padded to different lengths
            logits = logits[: len(rows[i]["labels"])]
        totals[i] = totals[i] + logits
    copies = len(order) / len(rows)
    return [
        _decode(task, total / copies, row["labels"])
        for total, row in zip(totals, rows, strict=True)
    ]


@torch.inference_mode()
def row_logits(model, rows, order, instances: int, collate, precision):
    """Yields the logits of rows[i] for each i of `order`, N consecutive ones sharing a pass.

    Each is (labels,), or (L, labels) for tagging, L being the padded length: float32 on the CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().to(device)
    size = GROUPS * instances
    for start in range(0, len(order), size):
        batch = collate([rows[i] for i in order[start : start + size]])
        with autocast(precision, device):
            inputs = (batch["input_ids"].to(device), batch["attention_mask"].to(device))
            logits = model(*inputs).logits
        yield from logits.float().cpu()  # (R, labels) or (R, L, labels)


def _decode(task, logits, labels):
    if task.kind == "regression":
        return logits.item()
    best = logits.argmax(dim=-1).tolist()
    return _kept(best, labels) if task.kind == "tagging" else best


def _true_labels(rows) -> list:
    return [_kept(row["labels"], row["labels"]) for row in rows]


def _kept(values, labels):
    """Of a row's tags those that stand on the first piece of a word; a single label as it is."""
    if not isinstance(values, list):
        return values
    return [value for value, label in zip(values, labels, strict=True) if label != -100]
