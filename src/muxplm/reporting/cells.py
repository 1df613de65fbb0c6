"""The tidy tables: one row per model and column, what was measured beside what the paper has."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import median

import pandas as pd

from muxplm import tasks
from muxplm.experiments import Target, Variant
from muxplm.files import DataError, as_written
from muxplm.reporting import paper
from muxplm.reporting.scores import aggregate, headline, read_result, read_scores
from muxplm.settings import Settings

# Scores in 0..100; `low` and `high` bound the rounds of a throughput, or are a confidence interval.
TIDY = [
    *("model", "N", "column", "measured", "std", "std_training", "max"),
    *("average_std", "average_std_training", "average_max", "low", "high", "majority", "n"),
    *("paper", "paper_std", "paper_max", "difference"),
]

# Fewer points above always answering the most frequent label say little; such a score is marked.
LEARNT, UNLEARNT = 5.0, "†"

# Averages: over the paper's seven tasks, over all nine, over the two of tagging.
GROUPS = {"GLUE": tasks.GLUE_AVERAGED, "GLUE-all": tasks.GLUE, "Token": tasks.TOKEN}


def hardly_learnt(score, majority):
    """Whether a score, or each of several, is less than LEARNT points above the majority class."""
    return score < majority + LEARNT


@dataclass(frozen=True)
class Sources:
    """What a table is made from; files are read when they are asked for."""

    name: str
    target: Target
    settings: Settings

    @cached_property
    def variants(self) -> list[Variant]:
        # Sorting is stable: within the paper's rows and within the extensions the order stays.
        found = self.target.variants(self.settings.axes)
        return sorted(found, key=lambda variant: variant.recipe.extension)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        return self.target.selected_tasks(self.settings.axes)

    @property
    def timed(self) -> str:
        return self.target.timed_set(self.settings.axes)

    @cached_property
    def scores(self) -> pd.DataFrame:
        published = "published" in self.target.needs
        return read_scores(self.settings, self.variants, self.tasks, published)

    @cached_property
    def throughput(self) -> dict:
        return read_result(self.settings.paths.throughput(self.timed))

    def check(self):
        """DataError if the config selects nothing that the target shows."""
        target, nothing = self.target, f"{self.name} has nothing to show under this config"
        if not self.variants:
            raise DataError(
                f"{nothing}: families, sizes and instances must list some of "
                f"{', '.join(target.families)}; {', '.join(target.sizes)}; an N that they take (1 for "
                "bert and electra, more for the multiplexed)"
            )
        if target.about_pruning and not any(variant.sparsity for variant in self.variants):
            keys = "pruned.sparsities, pruned.tasks and pruned.by"
            raise DataError(f"{nothing}: set {keys} to what it shows (docs/pruning.md)")
        if (target.tasks or target.own_tasks) and not self.tasks:
            known = ", ".join(target.tasks) or "one's own (docs/extending.md)"
            raise DataError(f"{nothing}: tasks must list some of {known}")

    def of(self, variant: Variant) -> pd.DataFrame:
        return self.scores[self.scores["model"] == variant.name]


def tidy(sources: Sources, rows_of: Iterable[Callable]) -> pd.DataFrame:
    """The rows that each of `rows_of` makes of each variant."""
    rows = [row for v in sources.variants for make in rows_of for row in make(sources, v)]
    return pd.DataFrame(rows, columns=TIDY)


def averages(sources: Sources, variant: Variant):
    """GLUE over seven tasks, over all nine where the target is about these, and Token."""
    own = headline(sources.of(variant))
    for group, names in GROUPS.items():
        if group == "GLUE-all" and not set(names) <= set(sources.target.tasks):
            continue
        of_group = own[own["task"].isin(names)]
        yield row(variant, group, aggregate(of_group), paper_of(sources.name, variant))


def single_tasks(sources: Sources, variant: Variant):
    """Every task by its own metric; other metrics as "task/metric"."""
    scores = sources.of(variant)
    for task in sources.tasks:
        for metric, rows in scores[scores["task"] == task].groupby("metric", sort=False):
            own = metric == tasks.TASKS[task].metric
            reference = paper_of(sources.name, variant) if own else None
            yield row(variant, task if own else f"{task}/{metric}", aggregate(rows), reference)


def throughputs(sources: Sources, variant: Variant):
    """Speed-ups are multiples of the reference; throughput is in instances per second."""
    content, path = sources.throughput, sources.settings.paths.throughput(sources.timed)
    with as_written(path):
        if variant.name not in content["models"]:
            raise DataError(f"{path} has no {variant.name}: delete it and run again")
        measured = content["models"][variant.name]
        speedup, best = measured["speedup"], measured["best"]
        trials = measured["instances_per_second"]
        spread = {"low": speedup["low"], "high": speedup["high"], "n": len(speedup["rounds"])}
    reference = paper_of(sources.name, variant)
    yield row(variant, "speedup", {"mean": speedup["median"], **spread}, reference)
    spread = {"low": min(trials), "high": max(trials), "n": len(trials)}
    yield row(variant, "throughput", {"mean": median(trials), **spread})
    # Each model at the micro-batch that suits it: a baseline starved of cache flatters the others.
    yield row(variant, "best/speedup", {"mean": best["speedup"], "n": 1})
    yield row(variant, "best/throughput", {"mean": best["instances_per_second"], "n": 1})
    yield row(variant, "best/micro_batch", {"mean": best["micro_batch"], "n": 1})


def row(variant: Variant, column: str, measured: dict, reference: Callable | None = None) -> dict:
    """One row. `reference(column)` gives the paper's (value, std) and maximum, None where none."""
    mean, maximum = reference(column) if reference else (None, None)
    value, std = mean or (float("nan"), float("nan"))
    measured = {"measured": measured["mean"]} | measured
    if measured["measured"] is None:  # a speed-up without a reference
        measured["measured"] = float("nan")
    return {
        "model": variant.name,
        "N": variant.n,
        "column": column,
        **measured,
        "paper": value,
        "paper_std": std,
        "paper_max": maximum[0] if maximum else float("nan"),
        "difference": measured["measured"] - value,
    }


def paper_of(table: str, variant: Variant) -> Callable:
    """Looks a column up among the paper's numbers: (mean cell, maximum cell)."""
    return partial(_cells, table, variant)


def _cells(table: str, variant: Variant, column: str):
    mean = paper.mean_cell(table, variant, column) or paper.cell_anywhere(variant, column)
    return mean, paper.max_cell(table, variant, column)
