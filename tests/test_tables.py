"""Every table but the first, over fabricated results of the whole grid, against plain loops."""

import csv
import json
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from fabricated import fabricate, settings_for, variants_of
from scipy import stats

from muxplm import experiments, tasks
from muxplm.reporting import layout, paper, tables
from muxplm.reporting.statistics import components

# All but the authors' fine-tuned models: tests/test_released.py.
NAMES = [
    name
    for name, table in experiments.TABLES.items()
    if not (table.released or table.own_tasks or table.about_pruning)
]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """The default config, all dialects, three pre-trainings: settings, and the folder of all tables."""
    folder = tmp_path_factory.mktemp("grid")
    more = {"dialects": list(experiments.DIALECTS), "pretraining_seeds": [1, 2, 3]}
    settings = settings_for(folder, **more)
    fabricate(settings, *NAMES)
    for name in NAMES:
        tables.build(name, settings)
    return settings, folder / "tables"


def tidy(folder, name) -> dict:
    with open(folder / f"{name}.csv") as file:
        return {(row["model"], row["column"]): row for row in csv.DictReader(file)}


def runs(settings, kind, model, task) -> list[dict]:
    content = json.loads(Path(getattr(settings.paths, kind)(model, task)).read_text())
    metric = tasks.TASKS[task].metric
    found = content["scores" if kind == "scores" else "runs"]
    return [{**run, "value": 100 * run["metrics"][metric]} for run in found]


def values(settings, model, task) -> dict[tuple, float]:
    return {
        (run["training_seed"], run["composition_seed"]): run["value"]
        for run in runs(settings, "scores", model, task)
    }


def close(cell, value):
    return float(cell) == pytest.approx(value, rel=1e-4, abs=1e-4)


SCORED = [name for name in NAMES if "scores" in experiments.TABLES[name].needs]


AVERAGING = [name for name in SCORED if name not in ("table6", "variance", "learnt")]


@pytest.mark.parametrize("name", AVERAGING)
def test_means_and_averages(grid, name):
    settings, folder = grid
    table = tidy(folder, name)
    for variant in variants_of(settings, name):
        selected = experiments.TABLES[name].selected_tasks(settings.axes)
        means = {}
        for task in selected:
            scored = values(settings, variant.name, task)
            means[task] = mean(scored.values())
            row = table[variant.name, task]
            assert close(row["measured"], means[task])
            assert close(row["max"], max(scored.values()))
        groups = {"GLUE": tasks.GLUE_AVERAGED, "GLUE-all": tasks.GLUE, "Token": tasks.TOKEN}
        for group, members in groups.items() if name != "table2" else ():
            inside = [means[task] for task in members if task in means]
            if group == "GLUE-all" and "wnli" not in experiments.TABLES[name].tasks:
                assert (variant.name, group) not in table
            elif inside:
                assert close(table[variant.name, group]["measured"], mean(inside))


def test_the_best_and_the_worst_composition(grid):
    settings, folder = grid
    table = tidy(folder, "table6")
    for variant in variants_of(settings, "table6"):
        best, worst = [], []
        for task, seed in product(tasks.GLUE_AVERAGED, settings.training_seeds):
            scored = values(settings, variant.name, task)
            of_seed = [scored[seed, c] for c in settings.composition_seeds]
            best.append(max(of_seed))
            worst.append(min(of_seed))
        assert close(table[variant.name, "best"]["measured"], mean(best))
        assert close(table[variant.name, "worst"]["measured"], mean(worst))
        assert close(table[variant.name, "range"]["measured"], mean(best) - mean(worst))
        ranges = []
        for seed in settings.training_seeds:
            averages = [
                mean(values(settings, variant.name, task)[seed, c] for task in tasks.GLUE_AVERAGED)
                for c in settings.composition_seeds
            ]
            ranges.append(max(averages) - min(averages))
        assert close(table[variant.name, "range/average"]["measured"], mean(ranges))


def test_a_dialects_difference_is_paired_over_training_seeds(grid):
    settings, folder = grid
    table = tidy(folder, "dialects")
    for variant, task in product(variants_of(settings, "dialects"), settings.tasks):
        if variant.dialect == "paper":
            assert (variant.name, f"{task}/difference") not in table
            continue
        here = values(settings, variant.name, task)
        there = values(settings, f"mux-bert-base-n{variant.n}", task)
        differences = [
            mean(here[seed, c] - there[seed, c] for c in settings.composition_seeds)
            for seed in settings.training_seeds
        ]
        row = table[variant.name, f"{task}/difference"]
        interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        assert close(row["measured"], mean(differences))
        assert close(row["low"], interval.low)
        assert close(row["high"], interval.high)


def test_the_luck_of_pretraining_beside_that_of_finetuning(grid):
    settings, folder = grid
    table = tidy(folder, "pretrainings")
    for family, of_group in product(
        ("bert", "electra", "mux-bert"), (tasks.GLUE_AVERAGED, tasks.TOKEN)
    ):
        group = "Token" if of_group is tasks.TOKEN else "GLUE"
        models = [v.name for v in variants_of(settings, "pretrainings") if v.family == family]
        assert len(models) == 3
        means, squares = [], []
        for model in models:
            of_seed = [  # (tasks, seeds)
                [
                    mean(values(settings, model, task)[s, c] for c in settings.composition_seeds)
                    for s in settings.training_seeds
                ]
                for task in of_group
            ]
            means.append(np.mean(of_seed))
            errors = stats.sem(of_seed, axis=1) / len(of_group)  # of each task's share
            squares.append((errors**2).sum())
        assert close(table[models[0], f"{group}/apart"]["measured"], np.std(means, ddof=1))
        chance = np.sqrt(np.mean(squares))
        assert close(table[models[0], f"{group}/fine-tuning"]["measured"], chance)
        assert (models[1], f"{group}/apart") not in table


def test_a_pretraining_that_is_left_out_is_no_pretraining_without_chance(tmp_path):
    changes = {"pretraining_seeds": [1, 2], "without": ["bert-base-pretraining2"]}
    settings = settings_for(tmp_path, **changes)
    fabricate(settings, "pretrainings")
    tables.build("pretrainings", settings)
    table = tidy(tmp_path / "tables", "pretrainings")
    of_seed = [
        [
            mean(values(settings, "bert-base", task)[s, c] for c in settings.composition_seeds)
            for s in settings.training_seeds
        ]
        for task in tasks.TOKEN
    ]
    errors = stats.sem(of_seed, axis=1) / len(tasks.TOKEN)
    row = table["bert-base", "Token/fine-tuning"]
    assert close(row["measured"], np.sqrt((errors**2).sum())) and row["n"] == "1"
    assert table["bert-base", "Token/apart"]["measured"] == ""
    assert float(table["mux-bert-base-n2", "Token/apart"]["measured"]) > 0


def test_the_gain_of_ensembling(grid):
    settings, folder = grid
    table = tidy(folder, "table4")
    for variant, task in product(variants_of(settings, "table4"), ("mnli", "qqp")):
        found = {
            (run["training_seed"], run["composition_seed"], run["copies"]): run["value"]
            for run in runs(settings, "ensembles", variant.name, task)
        }
        pairs = list(product(settings.training_seeds, settings.composition_seeds))
        alone = [found[*pair, 1] for pair in pairs]
        whole = [found[*pair, variant.n] for pair in pairs]
        gains = [b - a for a, b in zip(alone, whole, strict=True)]
        for column, expected in (("alone", alone), ("ensemble", whole), ("gain", gains)):
            assert close(table[variant.name, f"{task}/{column}"]["measured"], mean(expected))


def test_strategies_are_compared_in_pairs_on_fixed_tasks(grid):
    settings, folder = grid
    table = tidy(folder, "composition")
    for variant, strategy in product(variants_of(settings, "composition"), ("length", "clustered")):
        cells = []
        for task in tasks.TOKEN:
            cells.append([])
            for seed in settings.training_seeds:
                of = {"random": [], strategy: []}
                for run in runs(settings, "compositions", variant.name, task):
                    if run["training_seed"] == seed and run["strategy"] in of:
                        of[run["strategy"]].append(run["value"])
                cells[-1].append(mean(of[strategy]) - mean(of["random"]))
        # The variance of a mean over two tasks of means over the seeds; Satterthwaite's freedom.
        parts = [stdev(cell) ** 2 / len(cell) / len(cells) ** 2 for cell in cells]
        freedom = sum(parts) ** 2 / sum(
            p**2 / (len(c) - 1) for p, c in zip(parts, cells, strict=True)
        )
        half = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
        row, difference = table[variant.name, f"Token/{strategy}"], mean(map(mean, cells))
        assert close(row["measured"], difference)
        assert close(row["low"], difference - half)
        assert close(row["high"], difference + half)


def test_variance_components_are_those_put_in():
    random = np.random.default_rng(0)
    table = (
        random.normal(0, 3.0, (400, 1))
        + random.normal(0, 2.0, (1, 300))
        + random.normal(0, 1.0, (400, 300))
    )
    found = np.sqrt(components(table))
    assert found == pytest.approx([3.0, 2.0, 1.0], rel=0.15)
    constant = components(np.tile([[1.0], [5.0]], (1, 4)))
    assert constant == pytest.approx((8.0, 0.0, 0.0))  # the variance of 1 and 5
    assert np.isnan(components(np.ones((1, 5)))).all()


def test_variance_table_uses_each_task(grid):
    settings, folder = grid
    table = tidy(folder, "variance")
    found = []
    for task in tasks.TOKEN:
        scored = values(settings, "mux-bert-base-n5", task)
        rows = [[scored[t, c] for c in settings.composition_seeds] for t in settings.training_seeds]
        found.append(components(np.array(rows)))
        printed = table["mux-bert-base-n5", f"{task}/composition"]["measured"]
        assert close(printed, found[-1][1] ** 0.5)
    averaged = table["mux-bert-base-n5", "Token/training"]["measured"]
    assert close(averaged, mean(part[0] for part in found) ** 0.5)


@pytest.mark.parametrize("name", [*AVERAGING, "learnt"])
def test_the_majority_class_has_the_first_row_and_is_never_the_best(grid, name):
    """Its numbers are those of the scores files; in the CSV it is a column of each model's row."""
    settings, folder = grid
    text = (folder / f"{name}.md").read_text()
    assert "Majority class: what always answering" in words(folder, name)
    head, row = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:5:2]
    )
    assert row.count("majority class") == 1 and text.count("majority class") == 1 + (
        name in ("learnt", "pretrainings")  # whose notes have it
    )
    assert "**" not in "".join(row) and "majority class" not in (folder / f"{name}.csv").read_text()
    shown = dict(zip(head, row, strict=True))
    for task in experiments.TABLES[name].selected_tasks(settings.axes):
        content = json.loads(Path(settings.paths.scores("bert-base", task)).read_text())
        value = 100 * content["majority"][tasks.TASKS[task].metric]
        printed = shown.get(tasks.TASKS[task].title)
        assert printed in (None, f"{value:.{0 if name == 'learnt' else 1}f}")
    assert not {"Speed-up"} & set(shown) or shown["Speed-up"] == "-"


def test_what_was_learnt_is_counted_by_training_and_task(grid):
    settings, folder = grid
    table = tidy(folder, "learnt")
    counts = []
    for variant in variants_of(settings, "learnt"):
        count = 0
        for task in tasks.AVERAGED:
            scored = values(settings, variant.name, task)
            content = json.loads(Path(settings.paths.scores(variant.name, task)).read_text())
            majority = 100 * content["majority"][tasks.TASKS[task].metric]
            means = {
                t: mean(scored[t, c] for c in settings.composition_seeds)
                for t in settings.training_seeds
            }
            row = table[variant.name, task]
            for field, expected in (("measured", mean), ("low", min), ("high", max)):
                assert close(row[field], expected(means.values()))
            for seed, value in means.items():
                assert close(table[variant.name, f"{task}/{seed}"]["measured"], value)
                count += task in tasks.GLUE_AVERAGED and value >= majority + 5
        assert float(table[variant.name, "learnt"]["measured"]) == count
        assert table[variant.name, "learnt"]["n"] == "21"
        counts.append(count)
    assert 0 < min(counts) < max(counts) < 21  # cells of both kinds
    assert "of the 21 pairs" in words(folder, "learnt")
    again = tidy(folder, "pretrainings")  # counts the same, of further pre-trainings too
    for variant in variants_of(settings, "pretrainings"):
        assert again[variant.name, "learnt"]["n"] == "21"
        if (variant.name, "learnt") in table:
            both = (found[variant.name, "learnt"]["measured"] for found in (table, again))
            assert len(set(both)) == 1
    assert "of the 21 pairs" in words(folder, "pretrainings")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("table1", "table7", "table8")])
def test_the_paper_stands_beside_what_was_measured(grid, name):
    """Every number of the paper's table is in ours, and nothing else is called the paper's."""
    _, folder = grid
    with open(folder / f"{name}.csv") as file:
        rows = list(csv.DictReader(file))
    found = [
        float(row["paper_max" if name == "table10" else "paper"])
        for row in rows
        if row["paper_max" if name == "table10" else "paper"]
    ]
    if not name.removeprefix("table").isdigit():
        return
    printed = list(paper.reference(name)["value"].dropna().astype(float))
    missing = sorted(printed)
    for value in found:
        if value in missing:
            missing.remove(value)
    assert missing == []


def words(folder, name) -> str:
    return (folder / f"{name}.md").read_text().split("\n\n")[0]


def test_a_table_whose_rows_name_no_model_names_it(grid):
    _, folder = grid
    wanted = {"table5": "base", "table12": "large", "table13": "base", "dialects": "base"}
    for name in NAMES:
        found = re.findall(r"All rows: (.*?)\.", words(folder, name))
        assert found == ([f"MUX-BERT, {wanted[name]}"] if name in wanted else []), name
        explained = "Rate: the weight of token retrieval" in words(folder, name)
        assert explained == (name == "table12")


def test_captions_say_what_bold_is_and_whose_rule(grid):
    _, folder = grid
    ours = {
        "table1": "N",
        "table2": "block",
        "table3": "size",
        "table5": "N",
        "table10": "size",
        "tokens": "size",
    }
    papers = {"table9": "its size", "table11": "the table", "table12": "its N", "table13": "its N"}
    papers["table14"] = "its size"
    for name in NAMES:
        caption = words(folder, name)
        assert (f"best of its column within its {ours.get(name)}," in caption) == (name in ours)
        assert ("The rule is ours, for the paper's numbers as well" in caption) == (name in ours)
        assert (f"Bold, within {papers.get(name)}:" in caption) == (name in papers)
        assert ("**" in (folder / f"{name}.md").read_text()) == (name in ours | papers)


def test_the_paper_bolds_one_of_table_5s_two_best(grid):
    """Our rule, which its caption calls ours, bolds both 95.3 at N = 2."""
    _, folder = grid
    rows = [line.split("|") for line in (folder / "table5.md").read_text().splitlines()]
    token = [row[7].strip() for row in rows if len(row) > 7 and row[1].strip() == "2"]
    assert token == ["95.2", "**95.3**", "**95.3**"]


def test_bold_in_table_2_is_the_best_of_each_block(grid):
    _, folder = grid
    measured, cited = (folder / "table2.md").read_text().split(f"## {tables.LITERATURE}")
    assert "**90.5**" in measured  # QNLI of BERT
    assert "**91.3**" in cited.split("##")[0]  # of CoFi


def test_stds_of_an_average_are_not_claimed_of_single_tasks(grid):
    _, folder = grid
    averaging = {f"table{n}" for n in (1, 3, 5, 9, 10, 11, 12, 13, 14)} | {"tokens"}
    for name in NAMES:
        caption = words(folder, name)
        assert "and over tasks" not in caption
        assert ("An average over tasks has the mean of its tasks'" in caption) == (
            name in averaging
        )
        both = "two stds" in caption
        assert both == (name in {"table1", "table2", "table3", "table5", "tokens"})


def test_intervals_are_no_dashes(grid):
    _, folder = grid
    text = (folder / "composition.md").read_text()
    assert re.search(r"\(-?\d+\.\d\d to -?\d+\.\d\d\)", text)
    assert not any("–" in (folder / f"{name}.md").read_text() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_md_has_a_row_for_each_line_and_a_caption(grid, name):
    settings, folder = grid
    text = (folder / f"{name}.md").read_text()
    caption, *_ = text.split("\n\n")
    assert caption.endswith(".")
    if name.removeprefix("table").isdigit():
        assert f"Table {name.removeprefix('table')} of the paper" in caption
    body = [line for line in text.splitlines() if re.match(r"\| [^:]", line)]
    widths = {line.count("|") for line in body}
    assert len(widths) == 1
    if name not in ("table7", "table8"):
        models = {row[0] for row in tidy(folder, name)}
        assert models >= {variant.name for variant in variants_of(settings, name)}


def test_wide_tables_have_the_papers_numbers_below(grid):
    _, folder = grid
    lines = (folder / "table13.md").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if re.match(r"\| 5 +\| DataMUX +\| ours", line))
    theirs = [cell.strip().strip("*") for cell in lines[at + 1].split("|")][1:-1]
    assert theirs[:5] == ["5", "DataMUX", "paper", "76.3 (0.1)", "89.1 (0.1)"]
    assert theirs[-1] == "78.6"


def test_within_a_std_of_the_best_is_bold():
    """The paper's own bold cells of Table 13, N = 2."""
    numbers = paper.reference("table13").query("N == 2").set_index("Mux Strategy")
    bold = {
        "MNLI": ["DataMUX"],
        "QQP": ["DataMUX", "Attention"],
        "STSB": ["DataMUX", "Attention"],
        "COLA": ["MUX-BERT"],
        "SST2": ["Attention"],
        "RTE": ["DataMUX"],
    }
    for column, expected in bold.items():
        rows = numbers[numbers["column"] == column]
        found = layout.best_within_std(rows["value"].to_numpy(float), rows["std"].to_numpy())
        assert list(rows.index[found]) == expected, column


def test_literature_is_marked_and_not_measured(grid):
    _, folder = grid
    table = tidy(folder, "table2")
    cited = {row["model"] for row in table.values() if not row["measured"]}
    assert {"DistilBERT6", "CoFi", "MobileBERT", "MUX-BERT (N=2) + CoFi"} <= cited
    assert not cited & {"bert-base", "mux-bert-base-n2", "BERT"}
    above, below = (folder / "table2.md").read_text().split(f"## {tables.LITERATURE}")
    assert "DistilBERT6" not in above and "DistilBERT6" in below
    other = below.split(f"## {tables.OTHER_VERSION}")[1]
    assert "CoFi" in other and "not measured" in tables.OTHER_VERSION


def test_pruned_rows_are_measured_beside_the_cited_ones(tmp_path):
    """On the tasks that they have; what is measured is no longer only cited."""
    pruned = {"sparsities": [0.6, 0.7], "tasks": ["sst2", "qnli"]}
    settings = settings_for(tmp_path, sizes=["base"], pruned=pruned)
    fabricate(settings, "table2", "pruning")
    for name in ("table2", "pruning"):
        tables.build(name, settings)
    table = tidy(tmp_path / "tables", "table2")
    for column, printed in {"speedup": "4", "qnli": "88.4", "sst2": "90"}.items():
        row = table["mux-bert-base-n2-cofi0.6", column]
        assert row["measured"] and row["paper"] == printed
    assert table["bert-base-cofi0.7", "speedup"]["paper"] == "2.7"
    assert ("mux-bert-base-n2-cofi0.6", "qqp") not in table
    text = (tmp_path / "tables/table2.md").read_text()
    assert "MUX-BERT + CoFi 60 %" in text and "MUX-BERT (N=2) + CoFi" not in text
    assert "at 70 %" in text
    rows = {row["model"] for row in tidy(tmp_path / "tables", "pruning").values()}
    assert {"bert-base", "mux-bert-base-n2-cofi0.7"} <= rows and len(rows) == 8


def test_hyper_parameters_are_those_in_force(tmp_path):
    change = {"pretrain": {"steps": 1234}, "finetune": {"learning_rate": 3.0e-5}}
    change["overrides"] = {"mux-bert-large-n2": {"model": {"dropout": 0.3}}}
    settings = settings_for(tmp_path, **change)
    for name in ("table7", "table8"):
        tables.build(name, settings)
    rows = {
        name: {row[0]: row[1:] for row in csv.reader((tmp_path / f"tables/{name}.csv").open())}
        for name in ("table7", "table8")
    }
    large = rows["table7"]["Hyper-parameter"].index("MUX-BERT LARGE/ours")
    assert rows["table7"]["Train Steps"][large] == "1234"
    assert rows["table7"]["Train Steps"][large + 1] == "1M"
    assert rows["table7"]["Dropout"][large] == "0.3" != rows["table7"]["Dropout"][large - 2]
    assert rows["table7"]["Hidden Size"][large] == str(settings.shapes["large"].hidden)
    # The larger rate at larger N is tagging's alone.
    sentences, tagging = rows["table8"]["Learning Rate"][0].split(". ")
    assert sentences.startswith("MNLI, ") and sentences.endswith(": 3e-05")
    assert tagging.startswith("NER, POS: 3e-05 for N = 1; 4.24e-05 for N = 2; ")
    assert rows["table8"]["Batch Size"][0].startswith(f"{settings.finetune.rows} for N = ")
    assert rows["table8"]["Sequence Length"] == [str(settings.task_length), "128"]


def test_what_a_preset_leaves_out_is_said(tmp_path):
    settings = settings_for(tmp_path, sizes=["base"], instances=[1, 2], tasks=["sst2", "rte"])
    fabricate(settings, "table9")
    tables.build("table9", settings)
    text = (tmp_path / "tables/table9.md").read_text()
    assert "Left out by this preset: sizes small, large; N 5, 10; tasks MNLI, QQP," in text


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_every_tex_compiles_and_fits_the_page(grid, tmp_path):
    pages = "\n\\clearpage\n".join(f"\\input{{{name}.tex}}" for name in NAMES)
    for name in NAMES:
        shutil.copy(grid[1] / f"{name}.tex", tmp_path)
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        f"{pages}\n\\end{{document}}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    too_wide = re.findall(r"Overfull \\hbox \((.*?)pt too wide\)", done.stdout)
    assert not [width for width in too_wide if float(width) > 1.0], too_wide
