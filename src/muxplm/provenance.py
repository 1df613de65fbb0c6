"""`muxplm provenance`: the runs behind a table or figure, and of each whether it is current.

A result is current if the recipe that it was made by is the one that the config gives. Imports no torch.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from muxplm import experiments, files, lineage, recipes
from muxplm.experiments import Target
from muxplm.mistakes import ConfigError
from muxplm.settings import Settings

# Of a target's needs: the function of `recipes`, the method of Paths.
CELLS = {
    "scores": ("score", "scores"),
    "published": ("published_scores", "published_scores"),
    "ensembles": ("ensembles", "ensembles"),
    "compositions": ("compositions", "compositions"),
}
COLUMNS = ("run", "recipe", "is", "version", "commit", "device", "precision", "seconds")


@dataclass(frozen=True)
class Run:
    """One result: what it is, the file that says how it was made, and the recipe of the config."""

    title: str
    path: Path
    expected: str

    @property
    def content(self) -> dict:
        """Empty where there is no such file, or none that can be read."""
        try:
            content = files.read_json(self.path)
        except files.DataError:
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def state(self) -> str:
        """current, STALE (made by another recipe), unknown (it does not say by which) or missing."""
        content = self.content
        states = {None: "unknown" if content else "missing", self.expected: "current"}
        return states.get(content.get("recipe"), "STALE")

    def told(self) -> tuple[str, ...]:
        """A cell for each of COLUMNS."""
        content = self.content
        made = content.get("made_with", {})
        seconds = f"{content['seconds']:.0f}" if "seconds" in content else ""
        known = (made.get("muxplm"), (made.get("commit") or "")[:9], made.get("machine"))
        precision = content.get("settings", {}).get("precision") or content.get("precision")
        return (
            self.title,
            content.get("recipe") or "",
            self.state,
            *(str(v or "") for v in (*known, precision)),
            seconds,
        )


def target_of(path: Path, settings: Settings) -> Target:
    """What a file of results/tables or results/figures shows. ConfigError for another file."""
    suffix = path.suffix[1:]
    for named, of in (
        (experiments.TABLES, settings.paths.table),
        (experiments.FIGURES, settings.paths.figure),
    ):
        if path.stem in named and Path(of(path.stem, suffix)) == path:
            return named[path.stem]
    example = settings.paths.table("table1", "tex")
    raise ConfigError(f"{path} is no table or figure of this config: name one such as {example}")


def runs_behind(target: Target, settings: Settings) -> list[Run]:
    """Trainings in the order in which they are made, then what was measured; each once."""
    found = dict.fromkeys([*_trainings(target, settings), *measured(target, settings)])
    return list(found)


def measured(target: Target, settings: Settings) -> Iterator[Run]:
    """The files that the target itself reads."""
    for need, (stage, place) in CELLS.items():
        for model, task in lineage.cells(target, settings) if need in target.needs else ():
            path = getattr(settings.paths, place)(model, task)
            recipe = getattr(recipes, stage)(settings, model, task)
            yield _run(f"{stage} {model} {task}", path, recipe)
    if "muxologies" in target.needs:
        for variant in target.variants(settings.axes):
            recipe = recipes.muxology(settings, variant.name)
            yield _run(f"muxology {variant.name}", settings.paths.muxology(variant.name), recipe)
    if timed := target.timed_set(settings.axes):
        path = settings.paths.throughput(timed)
        yield _run(f"throughput {timed}", path, recipes.throughput(settings, timed))


def _trainings(target: Target, settings: Settings) -> Iterator[Run]:
    if "published" in target.needs:
        for model, task in lineage.cells(target, settings):
            path = Path(settings.paths.published(model, task)).with_name("run.json")
            yield _run(f"published {model} {task}", path, recipes.published(settings, model, task))
    elif {"scores", "ensembles", "compositions", "prunings"} & set(target.needs):
        cells = lineage.cells(target, settings)
        for (model, task), seed in product(cells, settings.training_seeds):
            variant = settings.variants[model].trained
            yield from _before(settings, variant.last_stage, variant.name, task, seed)
            path = Path(lineage.cell(settings, model, task, seed)).with_name("run.json")
            recipe = recipes.cell(settings, model, task, seed)
            yield _run(f"{variant.last_stage} {variant.name} {task} seed {seed}", path, recipe)
    elif {"trainings", "muxologies"} & set(target.needs):
        every = "trainings" in target.needs
        variants = settings.variants.values() if every else target.variants(settings.axes)
        for variant in variants:
            if variant.stages:  # a pruned one has none of these trainings
                yield from _before(settings, "finetune", variant.name)


def _before(settings, stage, model, task="", seed=0) -> Iterator[Run]:
    """What a training starts from, the first first."""
    before = recipes.before(settings, stage, model, task, seed)
    if before is None:
        return
    if before.stage == "finetune" or not settings.released:
        yield from _before(settings, before.stage, before.model, task, seed)
    path = lineage.origin(settings, stage, model, task, seed).folder / "run.json"
    title = f"{before.stage} {path.parent.name}"
    if before.stage == "finetune":
        title = f"finetune {before.model} {task} seed {seed}"
    yield _run(title, path, before.recipe)


def _run(title, path, recipe) -> Run:
    return Run(title, Path(path), recipes.digest(recipe))


def stale(target: Target, settings: Settings) -> list[str]:
    """The files read by the target that other settings or other code made."""
    return [
        str(run.path)
        for run in measured(target, settings)
        if run.content.get("recipe", run.expected) != run.expected
    ]


def name_stale(target: Target, settings: Settings):
    """What other settings made is shown only with a word about it."""
    if found := stale(target, settings):
        print(
            f"muxplm: {len(found)} of its files are not of this config, {found[0]} for one: "
            "`muxplm provenance` lists them",
            file=sys.stderr,
        )


def tell(path: Path, settings: Settings) -> Iterator[str]:
    """The lines of `muxplm provenance`: a run each, tab-separated, then what they have in common."""
    rows = [run.told() for run in runs_behind(target_of(path, settings), settings)]
    yield "\t".join(COLUMNS)
    yield from map("\t".join, rows)
    states = [row[COLUMNS.index("is")] for row in rows]
    counts = ", ".join(
        f"{states.count(s)} {s}" for s in ("current", "STALE", "unknown", "missing") if s in states
    )
    yield f"# {path}: {len(rows)} runs, {counts}"
    for column in ("version", "commit", "device", "precision"):
        values = sorted({row[COLUMNS.index(column)] for row in rows} - {""})
        if len(values) > 1:
            yield f"# more than one {column}: {', '.join(values)}"
