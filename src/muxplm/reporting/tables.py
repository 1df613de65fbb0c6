"""Tables as .tex, .csv and .md: what was measured, and the paper's number beside it."""

from dataclasses import dataclass
from statistics import median

import pandas as pd

from muxplm import experiments, tasks
from muxplm.config import Settings, nearest
from muxplm.experiments import Variant
from muxplm.files import DataError, write_text
from muxplm.reporting import paper
from muxplm.reporting.scores import aggregate, headline, read_result, read_scores

EXTENSION = "Extension (not in the paper)"

# The tidy .csv: one row per model and column. Scores in 0..100; `low` and `high` bound the rounds.
TIDY = [
    *("model", "N", "column", "measured", "std", "std_training", "max"),
    *("average_std", "average_std_training", "average_max", "low", "high", "majority", "n"),
    *("paper", "paper_std", "paper_max", "difference"),
]

# What Table 1 shows: under which heading, whose number: the row of the tidy table, the value's
# column, the columns of its spread.
TABLE1 = {
    ("GLUE mean", "ours"): ("GLUE", "measured", ["std"]),
    ("GLUE mean", "paper"): ("GLUE", "paper", ["paper_std"]),
    ("GLUE max", "ours"): ("GLUE", "max", []),
    ("GLUE max", "paper"): ("GLUE", "paper_max", []),
    ("Token mean", "ours"): ("Token", "measured", ["std"]),
    ("Token mean", "paper"): ("Token", "paper", ["paper_std"]),
    ("Token max", "ours"): ("Token", "max", []),
    ("Token max", "paper"): ("Token", "paper_max", []),
    ("Speed-up", "ours"): ("speedup", "measured", ["low", "high"]),
    ("Speed-up", "paper"): ("speedup", "paper", []),
}


@dataclass(frozen=True)
class Number:
    """A number as printed, with its spread: a std, or the lowest and the highest."""

    value: str
    spread: tuple[str, ...] = ()

    def __str__(self):
        return f"{self.value} ({'–'.join(self.spread)})" if self.spread else self.value

    def latex(self) -> str:
        # Indices take half the width of brackets; only so do twelve columns fit a page.
        if len(self.spread) == 2:
            return "{0}$^{{{2}}}_{{{1}}}$".format(self.value, *self.spread)
        return self.value + "".join(f"\\textsubscript{{{std}}}" for std in self.spread)


@dataclass(frozen=True)
class Layout:
    """A table ready to print: `cells` and `bold` have the same shape, one row per variant.

    Cells are text or `Number`. Extensions come last.
    """

    caption: str
    variants: list[Variant]
    cells: pd.DataFrame
    bold: pd.DataFrame


def build(name: str, settings: Settings):
    """Writes the table as .tex, .csv and .md. ValueError for a name that no table has.

    DataError if an input is missing or the config selects none of the table's rows.
    """
    if name not in BUILDERS:
        raise ValueError(f"no builder for table {name!r}{nearest(name, BUILDERS)}")
    for suffix, content in BUILDERS[name](settings).items():
        write_text(settings.paths.table(name, suffix), content)


def table1(settings: Settings) -> dict[str, str]:
    """Table 1 by file suffix."""
    table = experiments.TABLES["table1"]
    # Sorting is stable: within the paper's rows and within the extensions the order stays.
    variants = sorted(table.variants(settings.axes), key=lambda variant: variant.recipe.extension)
    if not variants:
        raise DataError(
            "table1 has no rows under this config: sizes must list base, and instances an N that "
            "one of its families takes (1 for bert and electra, more for the multiplexed)"
        )
    selected = table.selected_tasks(settings.axes)
    scores = read_scores(settings, variants, selected)
    throughput = read_result(settings.paths.throughput)

    tidy = pd.DataFrame(
        [
            row
            for variant in variants
            for row in (
                *_score_rows(variant, scores[scores["model"] == variant.name], selected),
                *_throughput_rows(variant, throughput, settings.paths.throughput),
            )
        ],
        columns=TIDY,
    )
    layout = _lay_out(tidy, variants, TABLE1, _caption1(settings, selected, throughput))
    return {
        "tex": latex(layout, label="tab:table1"),
        "csv": tidy.to_csv(index=False, float_format="%.6g"),
        "md": markdown(layout),
    }


BUILDERS = {"table1": table1}


def _score_rows(variant: Variant, scores: pd.DataFrame, selected: tuple[str, ...]):
    own = headline(scores)
    for group, names in (("GLUE", tasks.GLUE_AVERAGED), ("Token", tasks.TOKEN)):
        yield _row(
            variant,
            group,
            aggregate(own[own["task"].isin(names)]),
            paper.table1_cell(variant, f"{group}/Mean (std)"),
            paper.table1_cell(variant, f"{group}/Max"),
        )
    for task in selected:
        of_task = scores[scores["task"] == task]
        for metric, rows in of_task.groupby("metric", sort=False):
            if metric == tasks.TASKS[task].metric:
                yield _row(variant, task, aggregate(rows), paper.task_cell(variant, task))
            else:
                yield _row(variant, f"{task}/{metric}", aggregate(rows))


def _throughput_rows(variant: Variant, throughput: dict, path: str):
    """Speed-ups are multiples of the reference; throughput is in instances per second."""
    if variant.name not in throughput["models"]:
        raise DataError(f"{path} has no {variant.name}: delete it and run again")
    measured = throughput["models"][variant.name]
    speedup, best, trials = measured["speedup"], measured["best"], measured["instances_per_second"]
    spread = {"low": speedup["low"], "high": speedup["high"], "n": len(speedup["rounds"])}
    yield _row(
        variant,
        "speedup",
        {"mean": speedup["median"], **spread},
        paper.table1_cell(variant, "speedup"),
    )
    spread = {"low": min(trials), "high": max(trials), "n": len(trials)}
    yield _row(variant, "throughput", {"mean": median(trials), **spread})
    # Each model at the micro-batch that suits it: a baseline starved of cache flatters the others.
    yield _row(variant, "best/speedup", {"mean": best["speedup"], "n": 1})
    yield _row(variant, "best/throughput", {"mean": best["instances_per_second"], "n": 1})
    yield _row(variant, "best/micro_batch", {"mean": best["micro_batch"], "n": 1})


def _row(variant: Variant, column: str, measured: dict, mean=None, maximum=None) -> dict:
    """A row of the tidy table. `mean` and `maximum` are the paper's (value, std), None if none."""
    value, std = mean or (float("nan"), float("nan"))
    return {
        "model": variant.name,
        "N": variant.n,
        "column": column,
        "measured": measured["mean"],
        **measured,
        "paper": value,
        "paper_std": std,
        "paper_max": maximum[0] if maximum else float("nan"),
        "difference": measured["mean"] - value,
    }


def _lay_out(tidy: pd.DataFrame, variants: list[Variant], shown: dict, caption: str) -> Layout:
    """`shown` says what stands in each column, as in TABLE1."""
    by_cell = tidy.set_index(["model", "column"])
    cells = pd.DataFrame({("", "Model"): [variant.recipe.label for variant in variants]})
    cells[("", "N")] = [str(variant.n) for variant in variants]
    bold = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    block = pd.Series([(variant.recipe.extension, variant.n) for variant in variants])
    for heading, (column, value, spread) in shown.items():
        rows = [by_cell.loc[(variant.name, column)] for variant in variants]
        cells[heading] = [_number(row[value], row[spread]) for row in rows]
        # The paper's habit: what prints alike is equally good, and if all is alike nothing is bold.
        printed = pd.Series([row[value] for row in rows], dtype=float).round(1)
        best, worst = (printed.groupby(block).transform(which) for which in ("max", "min"))
        bold[heading] = printed.eq(best) & best.ne(worst)
    for frame in (cells, bold):
        frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return Layout(caption, variants, cells, bold)


def _number(value: float, spread) -> Number:
    if pd.isna(value):
        return Number("-")
    return Number(f"{value:.1f}", tuple(f"{bound:.1f}" for bound in spread))


def latex(layout: Layout, label: str) -> str:
    """A plain `table` that needs booktabs and nothing else, no wider than article's text."""
    columns = layout.cells.columns
    rules = _block_rules(layout)
    numbers = [column for column in columns if column[0]]
    command = layout.bold.replace({True: "textbf:--rwrap", False: ""})
    style = layout.cells.style.hide(axis="index").apply(lambda _: command, axis=None)
    style = style.format(escape="latex").format(Number.latex, subset=numbers)
    # Styler has no rules between rows: they go before the first word of the row below.
    for row, rule in rules.items():
        style = style.format(
            lambda name, rule=rule: rule + name, escape="latex", subset=(row, [("", "Model")])
        )
    style = style.format_index(
        lambda name: _header_rules(columns) + name if name == "Model" else name, axis=1, level=1
    )
    # It writes \selector and then props. The stretch keeps the stacked indices of two rows apart.
    style = style.set_table_styles(
        [
            {"selector": "medskip", "props": ":{}"},
            {"selector": "scriptsize", "props": ":{}"},
            {"selector": "tabcolsep", "props": ":=1.7pt"},
            {"selector": "renewcommand", "props": ":{\\arraystretch}{1.35}"},
        ]
    )
    return style.to_latex(
        caption=escape_latex(layout.caption),
        label=label,
        position_float="centering",
        hrules=True,
        multicol_align="c",
        column_format="@{}l" + "r" + "l" * len(numbers) + "@{}",
    )


def _header_rules(columns: pd.MultiIndex) -> str:
    """A rule under each upper heading, to be put before the lower headings."""
    upper = pd.Series(range(1, len(columns) + 1)).groupby(columns.get_level_values(0), sort=False)
    spans = upper.agg(["min", "max"])
    return "".join(
        f"\\cmidrule(lr){{{first}-{last}}} "
        for heading, first, last in spans.itertuples()
        if heading
    )


def _block_rules(layout: Layout) -> dict[int, str]:
    """What goes before a row: a rule before each N of the paper's rows, a heading for the rest."""
    rules, before = {}, None
    for row, variant in enumerate(layout.variants):
        extension = variant.recipe.extension
        block = "extension" if extension else variant.n
        if block != before:
            rules[row] = "\\midrule\n" if before else ""
            if extension:
                width = len(layout.cells.columns)
                rules[row] += f"\\multicolumn{{{width}}}{{@{{}}l}}{{\\emph{{{EXTENSION}}}}} \\\\\n"
        before = block
    return rules


def escape_latex(text: str) -> str:
    """Plain text for LaTeX. (Styler escapes cells, but not captions.)"""
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    named = {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}"}
    return text.translate(str.maketrans(special | named))


def markdown(layout: Layout) -> str:
    """The caption as text, then the paper's rows, then the extensions."""
    text = layout.cells.map(str)
    text = text.mask(layout.bold, "**" + text + "**")
    text.columns = [
        upper if lower == "ours" else f"{upper}, {lower}" if upper else lower
        for upper, lower in text.columns
    ]
    extension = pd.Series([variant.recipe.extension for variant in layout.variants])
    parts = [layout.caption]
    for title, rows in ((None, text[~extension]), (f"## {EXTENSION}", text[extension])):
        if len(rows):
            parts += [title] if title else []
            parts.append(rows.to_markdown(index=False, disable_numparse=True))
    return "\n\n".join(parts) + "\n"


def _caption1(settings: Settings, selected: tuple[str, ...], throughput: dict) -> str:
    composition, training = len(settings.composition_seeds), len(settings.training_seeds)
    return " ".join(
        [
            "Scores and speed-up beside Table 1 of the paper (arXiv 2302.12441).",
            _scale(settings),
            _averaged("GLUE", tasks.GLUE_AVERAGED, selected),
            _averaged("Token", tasks.TOKEN, selected),
            f"Means have their std: over {_count(composition, 'composition seed')} (which "
            "instances are multiplexed together), averaged over "
            f"{_count(training, 'training seed')} and over tasks.",
            f"Max: over all {_count(composition * training, 'pair')} of training and composition "
            "seed, averaged over tasks; the paper's is over composition seeds of one training.",
            f"Speed-up: over {throughput['reference']}, median of the rounds with the lowest and "
            f"the highest, on {throughput['device']}, {_count(throughput['threads'], 'thread')}, "
            f"{throughput['precision']}, batches of {throughput['batch']} instances of "
            f"{throughput['length']} tokens.",
            "Bold: best for its N.",
        ]
    )


def _scale(settings: Settings) -> str:
    source = {
        "synthetic": "Ours is small scale: the embedded synthetic language",
        "local": "Ours is small scale: local text and tasks",
        "hub": "Ours: text and tasks from the Hub",
    }[settings.data.source]
    shape = settings.shapes["base"]
    overridden = "; overrides apply to some models" if settings.overrides else ""
    return (
        f"{source}, {shape.layers} layers of width {shape.hidden}, {_steps(settings, 'prime')} steps "
        f"of priming and {_steps(settings, 'pretrain')} of pre-training{overridden}."
    )


def _steps(settings: Settings, stage: str) -> str:
    trained = [name for name, variant in settings.variants.items() if stage in variant.stages]
    steps = {settings.training(stage, name).steps for name in trained} or {0}
    return f"{min(steps)}" if len(steps) == 1 else f"{min(steps)} to {max(steps)}"


def _averaged(group: str, names: tuple[str, ...], selected: tuple[str, ...]) -> str:
    ours = [tasks.TASKS[name].title for name in names if name in selected]
    if not ours:
        return f"{group} was not measured."
    sentence = f"{group}: mean of {', '.join(ours)}"
    if len(ours) < len(names):
        sentence += f" (the paper's: of all {_count(len(names), 'task')})"
    return sentence + "."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
