"""What a claim may compare: numbers measured of a variant, and the paper's number beside them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from muxplm.axes import Axes, PrunedAxes
from muxplm.experiments import FAMILIES, SIZES, Variant, targets
from muxplm.files import DataError
from muxplm.reporting import paper
from muxplm.reporting.analyses import MEAN_GROUPS, read_runs
from muxplm.reporting.cells import Sources, paper_of
from muxplm.reporting.scores import headline, read_result, read_scores
from muxplm.reporting.statistics import Cells
from muxplm.tasks import TASKS

SEEDS, ROUNDS = "training seed", "round"
_PRUNED = PrunedAxes((0.6, 0.7), paper.INSTANCES, tuple(TASKS), ("cofi",))
EVERYTHING = Axes(tuple(FAMILIES), SIZES, paper.INSTANCES, tuple(TASKS), pruned=_PRUNED)


class NotRun(Exception):
    """The cell was not measured; the message says why."""


@dataclass(frozen=True)
class Quantity:
    """One thing that is measured of a variant.

    measure(sources, variant): (tasks, repetitions), one number for each; scores in 0..100. Where there
        are no tasks or nothing is repeated, that axis is 1 long. Or Cells. NotRun if there is none.
    printed(target's name, variant): the paper's number; None if it prints none.
    repetitions: SEEDS, ROUNDS, or "" for a single number that nothing repeats.
    """

    title: str
    measure: Callable[[Sources, Variant], np.ndarray | Cells]
    printed: Callable[[str, Variant], float | None]
    repetitions: str


# --- Scores --------------------------------------------------------------------------------------


def _runs(group: str, sources: Sources, variant: Variant) -> pd.DataFrame:
    names = _scored(group, sources, [variant])
    return headline(read_scores(sources.settings, [variant], names))


def _grouped(scores: pd.DataFrame):
    """Scores over composition seeds, grouped by task and training seed."""
    return scores.groupby(["task", "training_seed"])["value"]


def _scored(group: str, sources: Sources, variants: list[Variant]) -> list[str]:
    """The group's tasks that the config has; NotRun if a score of theirs is missing."""
    names = [task for task in MEAN_GROUPS.get(group, (group,)) if task in sources.tasks]
    if not names:
        raise NotRun(f"this config has no task of {group}")
    cells = product(variants, names)
    _all_there(sources.settings.paths.scores(variant.name, task) for variant, task in cells)
    return names


def _score(group: str, sources: Sources, variant: Variant) -> Cells:
    runs = _runs(group, sources, variant)
    majority = runs.groupby("task")["majority"].first().mean(skipna=False)
    return Cells.of(_grouped(runs).mean().unstack())._replace(majority=majority)


def _range(sources: Sources, variant: Variant) -> np.ndarray:
    runs = _grouped(_runs("GLUE", sources, variant))
    return (runs.max() - runs.min()).unstack().to_numpy()


def _gain(task: str, sources: Sources, variant: Variant) -> np.ndarray:
    """All N copies of an instance against one, composition averaged out."""
    settings = sources.settings
    if task not in sources.tasks:
        raise NotRun(f"this config has no {TASKS[task].title}")
    _all_there([settings.paths.ensembles(variant.name, task)])
    runs = read_runs(sources, variant, "ensembles", "copies", [task])
    keys = ["training_seed", "composition_seed"]
    values = runs.set_index([*keys, "copies"])["value"].unstack()
    wanted = product(settings.training_seeds, settings.composition_seeds)
    gains = (values[variant.n] - values[1]).reindex(pd.MultiIndex.from_tuples(wanted, names=keys))
    missing = gains.index[gains.isna()]
    if len(missing):
        training, composition = missing[0]
        raise DataError(
            f"{settings.paths.ensembles(variant.name, task)} lacks (training seed, composition seed) "
            f"({training}, {composition}): delete it and run again"
        )
    return gains.groupby("training_seed").mean().to_numpy()[None]


def _all_there(paths):
    for path in paths:
        if not Path(path).exists():
            raise NotRun(f"{path} is missing")


# --- Throughput ----------------------------------------------------------------------------------


def _timed(sources: Sources, variant: Variant) -> dict:
    _all_there([sources.settings.paths.throughput(sources.timed)])
    if variant.name not in sources.throughput["models"]:
        raise NotRun(f"{variant.name} was not timed")
    return sources.throughput["models"][variant.name]


def _speedup(sources: Sources, variant: Variant) -> np.ndarray:
    rounds = _timed(sources, variant)["speedup"]["rounds"]
    if not rounds:
        raise NotRun("no plain model was timed beside it")
    return np.array([rounds])


def _speedup_per_instance(sources: Sources, variant: Variant) -> np.ndarray:
    return _speedup(sources, variant) / variant.n


def _below_frontier(group: str, sources: Sources, variant: Variant) -> Cells:
    """Below the best of the other models that are at least as fast, by the medians of their rounds."""
    names = _scored(group, sources, sources.variants)
    speeds = {of: median(_timed(sources, of)["instances_per_second"]) for of in sources.variants}
    scores = headline(sources.scores[sources.scores["task"].isin(names)])
    cells = {
        of: Cells.of(_grouped(scores[scores["model"] == of.name]).mean().unstack())
        for of in sources.variants
    }
    rivals = [of for of in cells if of != variant and speeds[of] >= speeds[variant]]
    return cells[variant].below([cells[rival] for rival in rivals])


# --- Muxology ------------------------------------------------------------------------------------


def _layers(kind: str, statistic: Callable, sources: Sources, variant: Variant) -> np.ndarray:
    path = sources.settings.paths.muxology(variant.name)
    _all_there([path])
    return np.array([[statistic(read_result(path)[kind])]])


def _spike(layers: list[float]) -> float:
    if len(layers) == 1:
        raise NotRun("a model of one layer has no others to compare its last with")
    return layers[-1] / median(layers[:-1])


def _upper_half(layers: list[float]) -> float:
    upper = layers[len(layers) // 2 :]
    return sum(upper) / len(upper)


def _last(layers: list[float]) -> float:
    return layers[-1]


# --- The paper's numbers -------------------------------------------------------------------------


@cache
def _printed(column: str, target: str, variant: Variant) -> float | None:
    cell, _ = paper_of(target, variant)(column)
    return cell[0] if cell else None


def _printed_per_instance(target: str, variant: Variant) -> float | None:
    speedup = _printed("speedup", target, variant)
    return speedup and speedup / variant.n


def _printed_distance(group: str, target: str, variant: Variant) -> float | None:
    """From the models whose score and speed-up are both printed: more could only raise it."""
    points = {
        of: (_printed("speedup", target, of), _printed(group, target, of))
        for of in targets()[target].variants(EVERYTHING)
    }
    if None in points[variant]:
        return None
    speed, score = points.pop(variant)
    rivals = [
        other
        for as_fast, other in points.values()
        if None not in (as_fast, other) and as_fast >= speed
    ]
    return max(rivals, default=0.0) - score


def _nothing_printed(target: str, variant: Variant) -> None:
    return None


QUANTITIES = {
    **{
        name: Quantity(title, partial(_score, name), partial(_printed, name), SEEDS)
        for name, title in {
            **{group: group for group in MEAN_GROUPS},
            **{task.name: task.title for task in TASKS.values()},
        }.items()
    },
    **{
        f"gain/{task}": Quantity(
            f"gain by ensembling on {TASKS[task].title}",
            partial(_gain, task),
            partial(_printed, f"{task}/gain"),
            SEEDS,
        )
        for task in targets()["table4"].tasks
    },
    "range": Quantity("range over compositions", _range, partial(_printed, "range"), SEEDS),
    "speedup": Quantity("speed-up", _speedup, partial(_printed, "speedup"), ROUNDS),
    "speedup/N": Quantity("speed-up over N", _speedup_per_instance, _printed_per_instance, ROUNDS),
    **{
        f"below frontier/{group}": Quantity(
            f"points of {group} below the others' frontier",
            partial(_below_frontier, group),
            partial(_printed_distance, group),
            SEEDS,
        )
        for group in MEAN_GROUPS
    },
    **{
        name: Quantity(title, partial(_layers, kind, statistic), _nothing_printed, "")
        for name, title, kind, statistic in (
            ("activation/spike", "last layer over the others", "activations", _spike),
            ("entropy/upper", "entropy of the upper layers", "entropy", _upper_half),
            ("entropy/last", "entropy of the last layer", "entropy", _last),
        )
    },
}
