"""Instances per second of the models of a set, and their ratio to plain BERT of the base size.

All models run in one process on one batch of real examples. A round times each model once, so that
a ratio is formed from measurements seconds apart: a machine that slows down slows both.
"""

import random
from collections.abc import Callable, Iterable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import torch
from torch import nn

from muxplm import lineage, recipes, trained
from muxplm.data.prepare import read_tokenizer
from muxplm.data.rows import read_task
from muxplm.experiments import TIMED, Variant
from muxplm.files import DataError, write_json
from muxplm.model_config import model_config
from muxplm.models.build import load_model, new_model
from muxplm.precision import autocast, for_inference, use_bf16
from muxplm.recipes import timed_task
from muxplm.settings import Settings
from muxplm.tasks import TASKS

SWEEP_PASSES = 2  # timed passes of each micro-batch when looking for the best


def write_throughput(settings: Settings, timed: str):
    content = {"recipe": recipes.digest(recipes.throughput(settings, timed))}
    content |= measure_throughput(settings, timed)
    write_json(settings.paths.throughput(timed), content)


def measure_throughput(settings: Settings, timed: str) -> dict:
    """Times the models of a set, a key of TIMED, twice: with the whole batch at once, and in chunks.

    In chunks means each model at its own best micro-batch.
    The first is the paper's protocol. The second is there because a large batch may starve plain
    BERT of cache, which flatters the multiplexed models: their encoder sees N times fewer rows.
    """
    plan = settings.throughput
    variants = {v.name: v for v in TIMED[timed].variants(settings.axes)}
    tokenizer = read_tokenizer(settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = {name: x.to(device) for name, x in read_batch(settings, tokenizer).items()}
    # Fresh weights and two classes: neither changes the speed. What a pruned model looks like was
    # learnt, for each task anew, so those are timed as they were saved.
    models = {
        name: new_model("classification", model_config(settings, variant.trained, tokenizer))
        for name, variant in variants.items()
        if not variant.sparsity
    }
    of_tasks = {name: {} for name in variants}
    for name, task, seed in recipes.timed_cells(settings, timed):
        key = of_tasks[name][task] = f"{name}/{task}"
        folder = Path(lineage.cell(settings, name, task, seed)).parent
        models[key] = load_model(TASKS[task].kind, folder)
    of_keys = {key: key.split("/")[0] for key in models}
    models = {
        key: served(model, settings.precision_of(of_keys[key]), device)
        for key, model in models.items()
    }
    instances = {key: variants[name].n for key, name in of_keys.items()}
    with torch.inference_mode():
        at_once, best, at_best = time_models(
            models, instances, batch, plan.micro_batches, plan.trials, plan.batches
        )
    reference = find_reference(variants.values())
    for name, tasks in of_tasks.items():  # of a pruned variant, the mean time over its tasks
        for seconds in (at_once, at_best) if tasks else ():
            rounds = zip(*(seconds[key] for key in tasks.values()), strict=True)
            seconds[name] = [mean(of_round) for of_round in rounds]
    count = plan.batch * plan.batches  # instances in one trial

    def measured(key):
        return {
            "instances_per_second": [count / seconds for seconds in at_once[key]],
            "speedup": speedup(at_once, key, reference),
            "best": {
                "micro_batch": best.get(key),
                "instances_per_second": count / median(at_best[key]),
                "speedup": speedup(at_best, key, reference)["median"],
            },
        }

    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": "bf16" if use_bf16(settings.precision) else "fp32",
        "batch": plan.batch,
        "length": plan.length,
        "batches": plan.batches,
        "trials": plan.trials,
        "reference": reference,
        "models": {
            name: measured(name)
            | ({"tasks": {t: measured(key) for t, key in tasks.items()}} if tasks else {})
            for name, tasks in of_tasks.items()
        },
    }


def find_reference(variants: Iterable[Variant]) -> str | None:
    """The paper's reference, BERT base; without it the first plain model; without any, None."""
    plain = [v.name for v in variants if not (v.recipe.multiplexed or v.sparsity or v.precision)]
    return "bert-base" if "bert-base" in plain else next(iter(plain), None)


def read_batch(settings: Settings, tokenizer) -> dict[str, torch.Tensor]:
    """The first validation rows of QQP, or else of the config's first task.

    input_ids and attention_mask (batch, length): every row is truncated or padded to the full
    length. A split with too few rows starts again from its top.
    """
    plan = settings.throughput
    if plan.length > settings.max_length:
        raise DataError(
            f"throughput.length is {plan.length} but the models are built for max_length "
            f"{settings.max_length}: lower the one or raise the other"
        )
    task = TASKS[timed_task(settings)]
    rows = read_task(task.name, "validation", settings)
    return tokenizer(
        *(list(islice(cycle(rows[column]), plan.batch)) for column in task.columns),
        is_split_into_words=task.kind == "tagging",
        padding="max_length",
        truncation=True,
        max_length=plan.length,
        return_tensors="pt",
    ).data


def served(model: nn.Module, precision: str, device) -> Callable:
    """`model` as a function of a batch, in `precision`."""
    model = for_inference(model.to(device), precision).eval()

    def answer(**batch):
        with autocast(precision, device.type):
            return model(**batch)

    return answer


def time_models(models, instances, batch, micro_batches, rounds, repeats) -> tuple:
    """Seconds of each round with the whole batch at once, best micro-batches, seconds with those.

    All three by the models' keys; `instances` says each model's N.
    """
    whole = {key: partial(run_batch, model, batch) for key, model in models.items()}
    at_once = time_interleaved(whole, rounds, repeats)
    best = {
        key: best_micro_batch(model, batch, instances[key], micro_batches)
        for key, model in models.items()
    }
    chunked = {
        key: partial(run_batch, model, batch, best[key] * instances[key])
        for key, model in models.items()
    }
    return at_once, best, time_interleaved(chunked, rounds, repeats)


def run_batch(model: Callable, batch: dict[str, torch.Tensor], chunk: int | None = None):
    """A forward pass over all rows of `batch`, `chunk` instances at a time (None: all at once)."""
    rows = len(batch["input_ids"])
    step = chunk or rows
    for start in range(0, rows, step):
        model(**{name: x[start : start + step] for name, x in batch.items()})


def best_micro_batch(model: Callable, batch: dict, n: int, sizes: Iterable[int]) -> int:
    """The fastest of `sizes` for a model of N = n.

    A micro-batch of m means m rows of the encoder, hence m * n instances: what fits in the cache is
    then comparable between models. None has more rows than the whole batch makes.
    """
    most = -(-len(batch["input_ids"]) // n)
    passes = {m: partial(run_batch, model, batch, m * n) for m in {min(m, most) for m in sizes}}
    seconds = time_interleaved(passes, SWEEP_PASSES, 1)
    return min(seconds, key=lambda m: min(seconds[m]))


def time_interleaved(passes: dict[str, Callable], rounds: int, repeats: int) -> dict[str, list]:
    """Seconds that `repeats` calls of each pass take, for each round, after one call to warm up.

    Every round has an order of its own, the same at each run: no pass always follows the same one.
    """
    for run in passes.values():
        run()
    seconds = {name: [] for name in passes}
    for number in range(rounds):
        for name in random.Random(number).sample(list(passes), len(passes)):
            synchronize()
            start = perf_counter()
            for _ in range(repeats):
                passes[name]()
            synchronize()
            seconds[name].append(perf_counter() - start)
    return seconds


def speedup(seconds: dict[str, list], name: str, reference: str | None) -> dict:
    """How many times faster than the reference `name` is: median, low and high over the rounds."""
    if reference is None:
        return {"median": None, "low": None, "high": None, "rounds": []}
    rounds = [r / own for r, own in zip(seconds[reference], seconds[name], strict=True)]
    return {"median": median(rounds), "low": min(rounds), "high": max(rounds), "rounds": rounds}


def synchronize():
    """Waits for the GPU: a call returns before the work it started there is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return trained.device()
