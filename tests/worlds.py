"""Made-up worlds for the tests of the claims: what is true of every cell, and results drawn from it."""

import json
import math
from pathlib import Path
from random import Random

import numpy as np
import yaml

from muxplm import config, experiments, tasks
from muxplm.experiments import Variant
from muxplm.reporting import paper
from muxplm.reporting.cells import paper_of
from muxplm.settings import Settings, merge

ROOT = Path(__file__).parent.parent
SHAPES = {
    size: {"layers": layers, "hidden": 32, "heads": 2, "intermediate": 64}
    for size, layers in (("small", 2), ("base", 3), ("large", 4))
}


def settings_for(folder, **changes) -> Settings:
    raw = yaml.safe_load((ROOT / config.DEFAULT).read_text())
    own = {"results": str(folder), "sizes": ["small", "base", "large"], "shapes": SHAPES}
    seeds = {"training_seeds": [1, 2, 3], "composition_seeds": [1, 2, 3, 4]}
    return config.validate(merge(raw, own | seeds | changes))


# --- A world in which every claim is true ----------------------------------------------------------

# How much of a difference between models a task shows: tasks differ, 1 on average over each group.
SHARES = dict(zip(tasks.GLUE_AVERAGED, np.linspace(0.4, 1.6, 7), strict=True))
SHARES |= {"ner": 1.7, "pos": 0.3, "wnli": 0.0, "cola": 2.0}


def true_score(variant: Variant, task: str) -> float:
    """In 0..100, before noise."""
    token = task in tasks.TOKEN
    effect = {"small": -6, "base": 0, "large": 1}[variant.size]
    effect -= {1: 0.0, 2: 0.2, 5: 3.0, 10: 5.0}[variant.n]
    if variant.family == "electra":
        effect -= 1
    if variant.family == "tmux":
        effect -= 20
    if variant.recipe.multiplexed and variant.family != "tmux":
        if variant.demultiplexer == "prefix":
            if token and variant.n > 2:
                return 10.0
            effect += 1 if variant.n == 2 else -2
        if variant.multiplexer == "contextual":
            effect += 1 if token else -1
    return 85 + SHARES[task] * effect


def true_speed(variant: Variant) -> float:
    speed = {"small": 6.0, "base": 1.0, "large": 0.3}[variant.size] * variant.n
    return speed * {"tmux": 0.8}.get(variant.family, 0.97 if variant.n > 1 else 1.0)


def true_gain(variant: Variant, task: str) -> float:
    return variant.n / (5 if task == "mnli" else 10)


def true_layers(variant: Variant) -> dict:
    layers = SHAPES[variant.size]["layers"]
    return {
        "activations": [1.0] * (layers - 1) + [1.0 + math.log(variant.n)],
        "entropy": [2.0] * (layers // 2) + [2.0 - 0.1 * variant.n] * (layers - layers // 2),
    }


TRUE = {
    "score": true_score,
    "speed": true_speed,
    "gain": true_gain,
    "layers": true_layers,
    "range": lambda variant: 2.0,
}


# --- The paper's world -----------------------------------------------------------------------------

# Tables that have a variant's scores on single tasks, or its averages; those that have its speed-up.
_SCORES = ("table9", "table11", "table12", "table13", "table14")
_GROUPS = ("table1", "table3", "table5")


def _printed(tables, variant: Variant, column: str) -> float | None:
    cells = (paper.mean_cell(table, variant, column) for table in tables)
    return next((cell[0] for cell in cells if cell), None)


def printed_score(variant: Variant, task: str) -> float:
    """Where the paper has an average alone, NER is 2 points above it and POS as much below."""
    if task in tasks.GLUE:
        return _printed(_SCORES, variant, task) or 50.0
    offset = {"ner": 2.0, "pos": -2.0}[task]
    return (_printed(_GROUPS, variant, "Token") or 50.0) + offset


def printed_speed(variant: Variant) -> float:
    return _printed(("table1", "table3"), variant, "speedup") or true_speed(variant)


def printed_gain(variant: Variant, task: str) -> float:
    cell, _ = paper_of("table4", variant)(f"{task}/gain")
    return cell[0] if cell else 0.0


def printed_range(variant: Variant) -> float:
    return _printed(("table6",), variant, "range") or 1.0


PAPER = {
    "score": printed_score,
    "speed": printed_speed,
    "gain": printed_gain,
    "layers": true_layers,
    "range": printed_range,
}


# --- A world without differences -------------------------------------------------------------------

ALIKE = {
    "score": lambda variant, task: 85 + 10 * SHARES[task],
    "speed": lambda variant: 1.0,
    "gain": lambda variant, task: 0.0,
    "layers": lambda variant: {"activations": [1, 1], "entropy": [1, 1]},
    "range": lambda variant: 1.0,
}


# --- Results ---------------------------------------------------------------------------------------


def write(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))


def fabricate(settings, noise=0.05, seed=0, truth=TRUE, **changes):
    """All results of the grid. `noise`: std over training seeds, in points, and a tenth of it, in per
    cent, over rounds. `changes` are laid over `truth`."""
    truth, random = truth | changes, Random(seed)
    training, composition = settings.training_seeds, settings.composition_seeds
    offsets = np.linspace(-0.5, 0.5, len(composition))
    paths = settings.paths
    for variant in settings.variants.values():
        for task in settings.tasks:
            metric, scores, ensembles = tasks.TASKS[task].metric, [], []
            for one in training:
                level = truth["score"](variant, task) + random.gauss(0, noise)
                gain = truth["gain"](variant, task) + random.gauss(0, noise / 5)
                spread = truth["range"](variant) + random.gauss(0, noise / 5)
                for other, offset in zip(composition, offsets, strict=True):
                    value = level + (offset * spread if variant.n > 1 else 0)
                    seeds = {"training_seed": one, "composition_seed": other}
                    scores.append({**seeds, "metrics": {metric: value / 100}})
                    for copies in range(1, variant.n + 1):
                        part = gain * (copies - 1) / max(1, variant.n - 1)
                        metrics = {metric: (value + part) / 100}
                        ensembles.append({**seeds, "copies": copies, "metrics": metrics})
            content = {"model": variant.name, "task": task, "metric": metric, "majority": {}}
            write(paths.scores(variant.name, task), content | {"scores": scores})
            write(paths.ensembles(variant.name, task), content | {"runs": ensembles})
        write(paths.muxology(variant.name), truth["layers"](variant))
    for timed, target in experiments.TIMED.items():
        models = {}
        for variant in target.variants(settings.axes):
            rounds = [
                truth["speed"](variant) * (1 + random.gauss(0, noise / 1000) * (variant.n > 1))
                for _ in range(5)
            ]
            rates = [100 * ratio for ratio in rounds]
            models[variant.name] = {"instances_per_second": rates, "speedup": {"rounds": rounds}}
        write(paths.throughput(timed), {"models": models})
