"""Tables 4 and 6, and what goes beyond the paper: composition, spread, what was learnt."""

from dataclasses import replace
from itertools import product

import pandas as pd

from muxplm import tasks
from muxplm.experiments import Variant
from muxplm.files import as_written
from muxplm.reporting import captions
from muxplm.reporting.cells import GROUPS, LEARNT, Sources, hardly_learnt, paper_of, row
from muxplm.reporting.layout import Column
from muxplm.reporting.scores import aggregate, headline, read_result
from muxplm.reporting.statistics import Cells, components, over_tasks

MEAN_GROUPS = {group: GROUPS[group] for group in ("GLUE", "Token")}
STRATEGIES = {
    "length": "sorted by length",
    "clustered": "clustered",
    "anti-clustered": "anti-clustered",
}


# --- Table 6: best and worst composition seed --------------------------------------------------


def tickets(sources: Sources, variant: Variant):
    own = headline(sources.of(variant))
    found = aggregate(own[own["task"].isin(tasks.GLUE_AVERAGED)])
    reference = paper_of(sources.name, variant)
    yield row(variant, "best", {"mean": found["best"]}, reference)
    yield row(variant, "worst", {"mean": found["worst"]}, reference)
    yield row(variant, "range", {"mean": found["best"] - found["worst"]}, reference)
    of_average = found["average_best"] - found["average_worst"]
    yield row(variant, "range/average", {"mean": of_average})


# --- Table 4: ensembling -----------------------------------------------------------------------


def read_runs(sources: Sources, variant: Variant, kind: str, by: str, names=None) -> pd.DataFrame:
    """The runs of ensembles or compositions, with `value` in 0..100: task, seeds, `by`.

    names: of tasks; all of the target's if left out.
    """
    path_of = getattr(sources.settings.paths, kind)
    rows = []
    for task in names or sources.tasks:
        metric = tasks.TASKS[task].metric
        with as_written(path := path_of(variant.name, task)):
            for run in read_result(path)["runs"]:
                seeds = run["training_seed"], run["composition_seed"]
                rows.append((task, *seeds, run[by], 100 * run["metrics"][metric]))
    columns = ["task", "training_seed", "composition_seed", by, "value"]
    return pd.DataFrame(rows, columns=columns).assign(majority=float("nan"))


def ensembles(sources: Sources, variant: Variant):
    """Each instance alone, N times, and the gain; then the whole curve over k copies."""
    runs = read_runs(sources, variant, "ensembles", "copies")
    reference = paper_of(sources.name, variant)
    for task in sources.tasks:
        of_task = runs[runs["task"] == task]
        alone, whole = (of_task[of_task["copies"] == k] for k in (1, variant.n))
        gain = _difference(whole, alone)
        yield row(variant, f"{task}/alone", aggregate(alone), reference)
        yield row(variant, f"{task}/ensemble", aggregate(whole), reference)
        yield row(variant, f"{task}/gain", aggregate(gain), reference)
        for copies, of_copies in of_task.groupby("copies"):
            yield row(variant, f"{task}/{copies} of {variant.n}", aggregate(of_copies))


def _difference(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """one - other, for each task and pair of seeds."""
    keys = ["task", "training_seed", "composition_seed"]
    left, right = (frame.set_index(keys)["value"] for frame in (one, other))
    return (left - right).reset_index().assign(majority=float("nan"))


def _interval(difference: pd.DataFrame) -> dict:
    """The mean over fixed tasks of what is paired by training seed, with its interval."""
    cells = difference.groupby(["task", "training_seed"])["value"].mean().unstack()
    if cells.empty:
        return {"mean": float("nan"), "n": 0}
    effect = over_tasks(Cells.of(cells))
    low, high = effect.interval()
    return {"mean": effect.value, "low": low, "high": high, "n": cells.shape[1]}


# --- Composition strategies --------------------------------------------------------------------


def compositions(sources: Sources, variant: Variant):
    """Random, and how far each other strategy is from it: paired over training seeds."""
    runs = read_runs(sources, variant, "compositions", "strategy")
    for group, names in {**MEAN_GROUPS, **{task: (task,) for task in sources.tasks}}.items():
        of_group = runs[runs["task"].isin(names)]
        random = of_group[of_group["strategy"] == "random"]
        yield row(variant, f"{group}/random", aggregate(random))
        for strategy in STRATEGIES:
            difference = _difference(of_group[of_group["strategy"] == strategy], random)
            yield row(variant, f"{group}/{strategy}", _interval(difference))


COMPOSITION_COLUMNS = [
    Column(
        group,
        f"{group}/{strategy}",
        lower=title,
        spread=("std",) if strategy == "random" else ("low", "high"),
        paper=None,
        digits=1 if strategy == "random" else 2,
    )
    for group, (strategy, title) in product(MEAN_GROUPS, {"random": "random", **STRATEGIES}.items())
]


def composition_notes(sources: Sources) -> list[str]:
    return [
        *(captions.averaged(group, names, sources.tasks) for group, names in MEAN_GROUPS.items()),
        "Random: the score when instances are put together at random. The others: the difference "
        "from it on the same fine-tuned models, with its 95 % interval (Student's t over training "
        "seeds, tasks fixed, composition averaged out). Sorted: neighbours in length. Clustered: rows "
        "that share many words; anti-clustered: rows that share few.",
    ]


# --- Dialects ----------------------------------------------------------------------------------


def dialects(sources: Sources, variant: Variant):
    """Each task's score, and how far it is from the paper's dialect: paired over training seeds."""
    own = headline(sources.of(variant))
    paper = headline(sources.of(replace(variant, dialect="paper")))
    for group, names in {**GROUPS, **{task: (task,) for task in sources.tasks}}.items():
        here, there = (scores[scores["task"].isin(names)] for scores in (own, paper))
        yield row(variant, group, aggregate(here))
        if variant.dialect != "paper" and len(there):
            yield row(variant, f"{group}/difference", _interval(_difference(here, there)))


def dialect_columns(sources: Sources) -> list[Column]:
    names = {task: tasks.TASKS[task].title for task in sources.tasks}
    quantities = {
        "": {"lower": "score", "spread": ("std",)},
        "/difference": {"lower": "difference", "spread": ("low", "high"), "digits": 2},
    }
    return [
        Column(title, f"{task}{suffix}", paper=None, **look)
        for task, title in names.items()
        for suffix, look in quantities.items()
    ]


def dialect_notes(sources: Sources) -> list[str]:
    seeds = captions.count(len(sources.settings.training_seeds), "training seed")
    return [
        "What the authors' released checkpoints do otherwise than the paper's text (docs/dialects.md), "
        "trained from scratch. Difference: from the paper's dialect, with its 95 % interval: Student's "
        f"t over {seeds} of fine-tuning, which share one pre-training.",
        captions.stds(sources.settings, averages=False),
    ]


# --- The luck of pre-training ------------------------------------------------------------------


def pretrainings(sources: Sources, variant: Variant):
    """Of each pre-training how much is learnt; beside a model's first how far apart all lie, and why.

    apart: std of their means. fine-tuning: the standard error that fine-tuning's seeds give each mean,
    root mean square. Both of the average over a group's tasks.
    """
    yield _how_many(variant, _by_training(headline(sources.of(variant))))
    seeds = sources.settings.pretraining_seeds
    if variant.pretraining_seed != seeds[0]:
        return
    scores = [headline(sources.of(replace(variant, pretraining_seed=seed))) for seed in seeds]
    for group, names in MEAN_GROUPS.items():
        of_group = [own[own["task"].isin(names)] for own in scores]
        of_group = [own for own in of_group if len(own)]  # `without` may have left some out
        if not of_group:
            continue
        found = [
            over_tasks(Cells.of(own.groupby(["task", "training_seed"])["value"].mean().unstack()))
            for own in of_group
        ]
        apart = pd.Series([estimate.value for estimate in found]).std()  # NaN for a single one
        chance = sum(estimate.error**2 for estimate in found) / len(found)
        yield row(variant, f"{group}/apart", {"mean": apart, "n": len(found)})
        yield row(variant, f"{group}/fine-tuning", {"mean": chance**0.5, "n": len(found)})


_LEARNT_COLUMN = Column("Learnt", "learnt", spread=(), paper=None, digits=0)
PRETRAINING_COLUMNS = [_LEARNT_COLUMN] + [
    column
    for group in MEAN_GROUPS
    for column in (
        Column(group, group, lower="mean", spread=("std_training",), paper=None),
        Column(group, f"{group}/apart", lower="std", spread=(), paper=None, digits=2),
        Column(
            group, f"{group}/fine-tuning", lower="by fine-tuning", spread=(), paper=None, digits=2
        ),
    )
]


def pretraining_notes(sources: Sources) -> list[str]:
    return [
        *(captions.averaged(group, names, sources.tasks) for group, names in MEAN_GROUPS.items()),
        "Seed: of priming and pre-training. Means have their std over training seeds of fine-tuning, "
        "averaged over tasks. Beside a model's first row: the std between its pre-trainings' means, and "
        "the std that fine-tuning's own chance would give them. What the first has beyond the second is "
        "the luck of pre-training, which no interval of another table covers. "
        + _learnt_note(sources),
    ]


# --- Where the spread comes from ---------------------------------------------------------------


def variances(sources: Sources, variant: Variant):
    """The std due to training seeds, to composition seeds, and to both together, of each task.

    For a group of tasks: the root of the mean variance.
    """
    own = headline(sources.of(variant))
    found = {}
    for task in sources.tasks:
        runs = own[own["task"] == task].pivot(
            index="training_seed", columns="composition_seed", values="value"
        )
        found[task] = components(runs.to_numpy())
    groups = {group: [t for t in names if t in found] for group, names in MEAN_GROUPS.items()}
    for group, names in {**groups, **{task: [task] for task in found}}.items():
        for i, part in enumerate(PARTS):
            variance = [found[task][i] for task in names]
            mean = (sum(variance) / len(variance)) ** 0.5 if variance else float("nan")
            yield row(variant, f"{group}/{part}", {"mean": mean, "n": len(own) / len(found)})


PARTS = {"training": "training", "composition": "composition", "rest": "rest"}
VARIANCE_COLUMNS = [
    Column(group, f"{group}/{part}", lower=title, spread=(), paper=None, digits=2)
    for group, (part, title) in product(MEAN_GROUPS, PARTS.items())
]


def variance_notes(sources: Sources) -> list[str]:
    return [
        *(captions.averaged(group, names, sources.tasks) for group, names in MEAN_GROUPS.items()),
        "Standard deviations, in points, that training seeds, composition seeds and the rest (their "
        "interaction) account for: a two-way random-effects decomposition of every task's scores "
        f"({captions.count(len(sources.settings.training_seeds), 'training seed')} by "
        f"{captions.count(len(sources.settings.composition_seeds), 'composition seed')}), the root "
        "of the mean variance over tasks. With few seeds these are rough.",
    ]


# --- What was learnt ---------------------------------------------------------------------------


def learnt(sources: Sources, variant: Variant):
    """Each task's mean, lowest and highest over trainings, composition averaged out; how many learnt.

    "task/seed" is one training alone.
    """
    cells = _by_training(headline(sources.of(variant)))
    yield _how_many(variant, cells)
    for task, of_task in cells.groupby("task", sort=False):
        values = of_task["value"].droplevel("task")
        baseline = {"majority": of_task["majority"].iloc[0]}
        spread = {"low": values.min(), "high": values.max(), "n": len(values)}
        yield row(variant, task, {"mean": values.mean(), **spread, **baseline})
        for seed, value in values.items():
            yield row(variant, f"{task}/{seed}", {"mean": value, "n": 1, **baseline})


def _by_training(own):
    """Scores and majority classes by task and training seed, composition averaged out."""
    return own.groupby(["task", "training_seed"])[["value", "majority"]].mean()


def _how_many(variant: Variant, cells):
    """A training has learnt if it is `LEARNT` points or more above the majority class.

    Counted are those of the tasks that the paper averages over.
    """
    counted = cells[cells.index.isin(tasks.GLUE_AVERAGED, level="task")]
    above = ~hardly_learnt(counted["value"], counted["majority"])
    return row(variant, "learnt", {"mean": int(above.sum()), "n": len(above)})


def learnt_columns(sources: Sources) -> list[Column]:
    look = {"spread": ("low", "high"), "paper": None, "digits": 0}
    return [_LEARNT_COLUMN, *(Column(tasks.TASKS[t].title, t, **look) for t in sources.tasks)]


def learnt_notes(sources: Sources) -> list[str]:
    seeds = len(sources.settings.training_seeds)
    return [
        f"Scores: the mean over {captions.count(seeds, 'training seed')}, with the lowest and the "
        "highest, each averaged over composition seeds. "
        + _learnt_note(sources)
        + " A difference between cells that have not learnt says nothing.",
    ]


def _learnt_note(sources: Sources) -> str:
    averaged = [task for task in sources.tasks if task in tasks.GLUE_AVERAGED]
    pairs = len(sources.settings.training_seeds) * len(averaged)
    return (
        f"Learnt: in how many of the {captions.count(pairs, 'pair')} of training seed and averaged GLUE "
        f"task the score is {LEARNT:g} points or more above the majority class."
    )
