"""Fine-tuned models scored under every composition seed.

A composition seed permutes the validation rows; consecutive rows are multiplexed together. Nothing else
differs between two composition seeds, so their spread is the effect of the company a row keeps.
"""

from pathlib import Path

import torch

from muxplm import files
from muxplm.data.collation import PadRows, tokenize_task
from muxplm.data.prepare import read_task, read_tokenizer
from muxplm.evaluation.metrics import majority, score
from muxplm.models.build import load_model
from muxplm.precision import autocast
from muxplm.tasks import TASKS

GROUPS = 32  # sequences per encoder pass


def write_scores(settings, name: str, tasks):
    """One summary per task: every training seed under every composition seed."""
    for task_name in tasks:
        task, tokenizer = TASKS[task_name], read_tokenizer(settings)
        data = read_task(task_name, settings)
        rows = tokenize_task(task, data["validation"], tokenizer, settings.task_length)
        labels = [_kept(row["labels"]) for row in rows]
        scores = []
        for seed in settings.training_seeds:
            folder = Path(settings.paths.finetuned(name, task_name, seed)).parent
            model = load_model(task.kind, folder)
            scores += _score_seeds(settings, name, task, model, rows, labels, seed, tokenizer)
        summary = {
            "model": name,
            "task": task_name,
            "metric": task.metric,
            "rows": len(rows),
            "majority": majority(task, list(data["train"][task.label]), labels),
            "scores": scores,
        }
        files.write_json(settings.paths.scores(name, task_name), summary)
        mean = sum(s["metrics"][task.metric] for s in scores) / len(scores)
        print(f"score {name} {task_name}: mean {task.metric} {mean:.3f}", flush=True)


def _score_seeds(settings, name, task, model, rows, labels, training_seed, tokenizer):
    n = settings.variants[name].n
    collate, precision = PadRows(tokenizer.pad_token_id), settings.precision
    scores, metrics = [], None
    for seed in settings.composition_seeds:
        # At N = 1 a row has no company, so no seed can matter: one pass serves all.
        if metrics is None or n > 1:
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
            predicted = predict(model, task, rows, order.tolist(), n, collate, precision)
            metrics = score(task, predicted, labels)
        scores.append(
            {"training_seed": training_seed, "composition_seed": seed, "metrics": metrics}
        )
    return scores


@torch.inference_mode()
def predict(model, task, rows, order, instances: int, collate, precision) -> list:
    """Predictions in the order of `rows`, composed in the order `order` (a permutation of them)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().to(device)
    predictions = [None] * len(rows)
    size = GROUPS * instances
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = collate([rows[i] for i in chosen])
        with autocast(precision, device):
            inputs = (batch["input_ids"].to(device), batch["attention_mask"].to(device))
            logits = model(*inputs).logits
        logits = logits.float().cpu()  # (R, labels) or (R, L, labels)
        for i, row_logits in zip(chosen, logits, strict=True):
            predictions[i] = _decode(task, row_logits, rows[i]["labels"])
    return predictions


def _decode(task, logits, labels):
    if task.kind == "regression":
        return logits.item()
    best = logits.argmax(dim=-1).tolist()
    return _kept(best, labels) if task.kind == "tagging" else best


def _kept(values, labels=None):
    """Of a row's tags those that stand on the first piece of a word; a single label as it is."""
    if not isinstance(values, list):
        return values
    labels = values if labels is None else labels
    return [value for value, label in zip(values, labels, strict=False) if label != -100]
