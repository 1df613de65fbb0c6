"""Made-up results in the formats that the steps of the DAG write, for the tests of what reads them."""

import json
from itertools import product
from pathlib import Path
from random import Random

import yaml

from muxplm import config, experiments, tasks
from muxplm.experiments import Variant
from muxplm.settings import merge

ROOT = Path(__file__).parent.parent
DEVICE = r"a CPU_64 & 100% {busy} #1 \o/ ~ ^"
STRATEGIES = ("random", "length", "clustered", "anti-clustered")


def settings_for(folder, **changes) -> config.Settings:
    """The default config with its results in `folder`, in float32: the same on more machines."""
    raw = yaml.safe_load((ROOT / config.DEFAULT).read_text())
    return config.validate(merge(raw, {"results": str(folder), "precision": "fp32", **changes}))


def variants_of(settings, *names) -> list[Variant]:
    """The variants that the targets need, in the grid's order."""
    found = (v for name in names for v in experiments.targets()[name].variants(settings.axes))
    return list(dict.fromkeys(found))


def write(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))


def fabricate(settings, *names):
    """All results that the targets read (none named: Table 1's); they differ in every cell."""
    names = names or ("table1",)
    random, speed = Random(0), {}
    for variant in variants_of(settings, *names):
        for task in settings.tasks:
            write(
                settings.paths.scores(variant.name, task), scores(settings, variant, task, random)
            )
        speed[variant.name] = speedups(variant, random)
    for timed in {experiments.targets()[n].timed_set(settings.axes) for n in names} - {""}:
        chosen = {v.name: speed[v.name] for v in experiments.TIMED[timed].variants(settings.axes)}
        run = {"device": DEVICE, "threads": 2, "precision": "bf16", "batch": 120, "length": 32}
        content = {**run, "reference": "bert-base", "models": chosen}
        write(settings.paths.throughput(timed), content)
    for kind, axis in (("ensembles", "copies"), ("compositions", "strategy")):
        wanted = [name for name in names if kind in experiments.targets()[name].needs]
        for variant, task in product(variants_of(settings, *wanted), settings.tasks):
            levels = range(1, variant.n + 1) if kind == "ensembles" else STRATEGIES
            content = runs(settings, task, axis, levels, random) | {"model": variant.name}
            write(getattr(settings.paths, kind)(variant.name, task), content)


def scores(settings, variant, name, random) -> dict:
    """Composition changes nothing at N = 1."""
    task, found = tasks.TASKS[name], []
    metrics = [task.metric, "token_f1" if task.kind == "tagging" else "pearson"]
    for training in settings.training_seeds:
        level = random.uniform(0.4, 0.9)
        for composition in settings.composition_seeds:
            score = level + (random.gauss(0, 0.01) if variant.n > 1 else 0)
            values = {metrics[0]: score, metrics[1]: score / 2}
            seeds = {"training_seed": training, "composition_seed": composition}
            found.append({**seeds, "metrics": values})
    content = {"model": variant.name, "task": name, "metric": task.metric, "rows": 400}
    # The same of every model, as it is: of the task alone.
    return content | {"majority": {task.metric: Random(name).uniform(0.4, 0.8)}, "scores": found}


def over(rounds) -> dict:
    """A speed-up as throughput files have it, of five rounds."""
    return {"median": sorted(rounds)[2], "low": min(rounds), "high": max(rounds), "rounds": rounds}


def speedups(variant, random) -> dict:
    rounds = [variant.n * random.uniform(0.8, 1.1) for _ in range(5)]
    return {
        "instances_per_second": [400 * ratio for ratio in rounds],
        "speedup": over(rounds),
        "best": {"micro_batch": 40, "instances_per_second": 812.5, "speedup": rounds[0] * 0.9},
    }


def runs(settings, name, axis, levels, random) -> dict:
    """An ensemble's or a strategy's scores, one for each level and pair of seeds."""
    metric = tasks.TASKS[name].metric
    found = [
        {
            "training_seed": training,
            "composition_seed": composition,
            axis: level,
            "metrics": {metric: random.uniform(0.5, 0.9)},
        }
        for training, composition, level in product(
            settings.training_seeds, settings.composition_seeds, levels
        )
    ]
    return {"task": name, "metric": metric, "rows": 400, "runs": found}
