"""Table 1 against plain loops over fabricated results; the paper's numbers against each other."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from fabricated import DEVICE, fabricate, settings_for, variants_of, write

from muxplm import cli, experiments, tasks
from muxplm.experiments import Variant
from muxplm.files import DataError
from muxplm.reporting import paper, tables
from muxplm.reporting.scores import aggregate, headline, read_scores

ROOT = Path(__file__).parent.parent
AVERAGE = "GLUE-WNLI, COLA"
SEVEN = ["MNLI", "QQP", "QNLI", "MRPC", "STSB", "RTE", "SST2"]

# (model, N) -> the std of Table 1, the mean of the tasks' stds in Table 9. There RTE's std is 2.2;
# with Table 13's 1.2 they agree.
STDS_THAT_DISAGREE = {("MUX-BERT", 5): (0.4, 0.54)}
# (table, row, average) -> printed, recomputed
AVERAGES_THAT_DISAGREE = {}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The default config plus the extension families: settings, and the table's folder."""
    folder = tmp_path_factory.mktemp("full")
    families = [*experiments.FAMILIES]
    settings = settings_for(folder, families=families)
    fabricate(settings)
    tables.build("table1", settings)
    return settings, folder / "tables"


def tidy(folder) -> dict:
    with open(folder / "table1.csv") as file:
        return {(row["model"], row["column"]): row for row in csv.DictReader(file)}


def tex_rows(text) -> list[list[str]]:
    """The body's rows as cells, without rules."""
    body = text.split(r"\midrule", 1)[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    return [row.strip().split(" & ") for row in body.split(r" \\") if row.strip()]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def std(values, ddof):
    values = list(values)
    if len(values) <= ddof:
        return math.nan
    squares = [(value - mean(values)) ** 2 for value in values]
    return math.sqrt(sum(squares) / (len(values) - ddof))


def by_hand(settings, model, names, metric=None) -> dict:
    """The statistics from the files, by loops alone."""
    per_task, majority = {}, []
    for name in names:
        content = json.loads(Path(settings.paths.scores(model, name)).read_text())
        key = metric or content["metric"]
        per_task[name] = {
            (run["training_seed"], run["composition_seed"]): 100 * run["metrics"][key]
            for run in content["scores"]
        }
        majority.append(100 * content["majority"].get(key, math.nan))
    runs = next(iter(per_task.values())).keys()
    average = {run: mean(per_task[name][run] for name in names) for run in runs}

    def spread(values):
        by_training = [
            [values[training, composition] for composition in settings.composition_seeds]
            for training in settings.training_seeds
        ]
        return (
            mean(std(seeds, 0) for seeds in by_training),
            std([mean(seeds) for seeds in by_training], 1),
            max(values.values()),
        )

    spreads = [spread(values) for values in per_task.values()]
    found = {"measured": mean(average.values()), "majority": mean(majority), "n": len(runs)}
    for i, key in enumerate(("std", "std_training", "max")):
        found[key] = mean(values[i] for values in spreads)
        found[f"average_{key}"] = spread(average)[i]
    return found


def close(text, value):
    return text == "" if math.isnan(value) else float(text) == pytest.approx(value, rel=1e-5)


def test_every_score_in_the_csv_is_the_one_computed_by_hand(full):
    settings, folder = full
    table = tidy(folder)
    for variant in variants_of(settings, "table1"):
        wanted = {"GLUE": (tasks.GLUE_AVERAGED, None), "Token": (tasks.TOKEN, None)}
        for name in tasks.AVERAGED:
            other = "token_f1" if name in tasks.TOKEN else "pearson"
            wanted |= {name: ([name], None), f"{name}/{other}": ([name], other)}
        for column, (names, metric) in wanted.items():
            for key, value in by_hand(settings, variant.name, names, metric).items():
                assert close(table[variant.name, column][key], value), (variant.name, column, key)


def test_throughput_in_the_csv(full):
    settings, folder = full
    table = tidy(folder)
    for model, run in json.loads(Path(settings.paths.throughput("base")).read_text())[
        "models"
    ].items():
        speedup = table[model, "speedup"]
        assert close(speedup["measured"], run["speedup"]["median"])
        assert close(speedup["low"], min(run["speedup"]["rounds"]))
        assert close(speedup["high"], max(run["speedup"]["rounds"]))
        assert close(table[model, "throughput"]["measured"], sorted(run["instances_per_second"])[2])
        assert close(table[model, "best/throughput"]["measured"], 812.5)
        assert close(table[model, "best/speedup"]["measured"], run["best"]["speedup"])
        assert close(table[model, "best/micro_batch"]["measured"], 40)


def printed_paper() -> dict:
    """Table 1's values as the CSV spells them, by (model, N)."""
    cells = {}
    with open(paper.FOLDER / "table1.csv") as file:
        for row in csv.DictReader(file):
            cells.setdefault((row["Model"], row["N"]), {})[row["column"]] = row
    return cells


def expected_cells(settings, variant, speed) -> list[str]:
    """One row as the .md prints it, without bold."""
    reference = printed_paper().get((variant.recipe.label, str(variant.n)))
    cells = [variant.recipe.label, str(variant.n)]
    for group, names in (("GLUE", tasks.GLUE_AVERAGED), ("Token", tasks.TOKEN)):
        ours = by_hand(settings, variant.name, names)
        average = reference and reference[f"{group}/Mean (std)"]
        mark = "†" * (ours["measured"] < ours["majority"] + 5)
        cells += [
            f"{ours['measured']:.1f}{mark} ({ours['std']:.1f}, {ours['std_training']:.1f})",
            f"{average['value']} ({average['std']})" if average else "-",
            f"{ours['max']:.1f}{mark}",
            reference[f"{group}/Max"]["value"] if reference else "-",
        ]
    ratio = speed["models"][variant.name]["speedup"]
    cells.append(f"{ratio['median']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f})")
    return [*cells, reference["speedup"]["value"] if reference else "-"]


def majority_cells(settings) -> list[str]:
    """The first row: what answering the most frequent label scores, which is no model's number."""
    names = {"GLUE": tasks.GLUE_AVERAGED, "Token": tasks.TOKEN}
    found = {group: by_hand(settings, "bert-base", names[group])["majority"] for group in names}
    cells = [part for group in names for part in (f"{found[group]:.1f}", "-") * 2]
    return ["majority class", "-", *cells, "-", "-"]


def test_md_and_tex_print_these_numbers_and_the_papers_in_the_grids_order(full):
    settings, folder = full
    speed = json.loads(Path(settings.paths.throughput("base")).read_text())
    variants = sorted(variants_of(settings, "table1"), key=lambda variant: variant.recipe.extension)
    wanted = [expected_cells(settings, variant, speed) for variant in variants]
    wanted.insert(0, majority_cells(settings))

    lines = (folder / "table1.md").read_text().splitlines()
    body = [line for line in lines if re.match(r"\| [^:]", line) and "GLUE mean" not in line]
    assert [[c.strip().strip("*") for c in row.strip("|").split("|")] for row in body] == wanted

    def plain(i, cell):
        between = " to " if i == 10 else ", "
        cell = re.sub(r"\\textbf{(.*)}", r"\1", cell).replace(r"$^\dagger$", "†")
        cell = re.sub(r"\$\^{(.*)}_{(.*)}\$", rf" (\2{between}\1)", cell)
        return re.sub(r"\\textsubscript{(.*)}", r" (\1)", cell)

    rows = [row for row in tex_rows((folder / "table1.tex").read_text()) if len(row) > 1]
    assert [[plain(*cell) for cell in enumerate(row)] for row in rows] == wanted


def test_paper_and_difference_in_the_csv(full):
    settings, folder = full
    table = tidy(folder)
    for variant in variants_of(settings, "table1"):
        reference = printed_paper().get((variant.recipe.label, str(variant.n)))
        for column, heading in (("GLUE", "GLUE/Mean (std)"), ("Token", "Token/Mean (std)")):
            row = table[variant.name, column]
            assert close(
                row["paper"], float(reference[heading]["value"]) if reference else math.nan
            )
            if reference:
                gap = float(row["measured"]) - float(reference[heading]["value"])
                assert float(row["difference"]) == pytest.approx(gap, abs=1e-3)
    assert float(table["mux-bert-base-n5", "rte"]["paper"]) == 59.13
    assert float(table["mux-electra-base-n10", "rte"]["paper"]) == 59.86
    assert float(table["tmux-base-n2", "stsb"]["paper"]) == 17.65
    assert table["mux-bert-base-n5", "ner"]["paper"] == ""


def test_composition_changes_nothing_at_n_1(full):
    _, folder = full
    stds = [
        float(row["std"])
        for (model, column), row in tidy(folder).items()
        if row["N"] == "1" and row["std"]
    ]
    assert len(stds) == 3 * (2 + 2 * len(tasks.AVERAGED))
    assert set(stds) == {0.0}


def test_what_is_near_the_majority_class_is_never_bold(full):
    """The best of each N among the others is, in each column of means that is ours."""
    lines = (full[1] / "table1.md").read_text().splitlines()
    rows = [
        [c.strip() for c in line.split("|")[1:-1]] for line in lines if re.match(r"\| [^:]", line)
    ]
    head = rows[0]  # ModernBERT's rows are a block of their own
    rows = [row for row in rows if row[1].isdigit() and "Modern" not in row[0]]
    kinds = set()
    for column, n in product(("GLUE mean", "Token mean"), {row[1] for row in rows}):
        cells = [row[head.index(column)] for row in rows if row[1] == n]
        learnt = {c: float(c.strip("*").split()[0]) for c in cells if "†" not in c}
        best = [c for c, value in learnt.items() if value == max(learnt.values())]
        assert [c for c in cells if "**" in c] == best, (column, n)
        kinds.add((len(learnt) == 0, len(learnt) == len(cells)))
    assert kinds == {(True, False), (False, False), (False, True)}  # none, some, all have learnt


def test_bold_is_where_the_paper_has_it(full):
    _, folder = full
    bold = {
        (row[0], row[1], i)
        for row in tex_rows((folder / "table1.tex").read_text())
        for i, cell in enumerate(row)
        if cell.startswith(r"\textbf") and i in (3, 5, 7, 9, 11)
    }
    glue, glue_max, token, token_max, speed = 3, 5, 7, 9, 11
    assert bold == {
        *(("BERT", "1", i) for i in (glue, glue_max, token, token_max)),
        *(("MUX-BERT", "2", i) for i in (glue, glue_max, token, token_max, speed)),
        *(("MUX-ELECTRA", "2", i) for i in (glue, speed)),
        *(("MUX-BERT", "5", i) for i in (glue, glue_max, token, token_max, speed)),
        ("MUX-ELECTRA", "5", speed),
        *(("MUX-BERT", "10", i) for i in (token_max, speed)),
        *(("MUX-ELECTRA", "10", i) for i in (glue, glue_max, token, token_max)),
    }


def test_extensions_stand_apart(full):
    _, folder = full
    rows = tex_rows((folder / "table1.tex").read_text())
    (at,) = [i for i, row in enumerate(rows) if tables.EXTENSION in row[0]]
    assert rows[at][0].startswith(r"\multicolumn{12}")
    assert {row[0] for row in rows[at + 1 :]} == {"ModernBERT", "MUX-ModernBERT"}
    assert not any("Modern" in row[0] for row in rows[:at])
    # Each is alone with its N, so none is the best of anything.
    assert not any("textbf" in cell for row in rows[at + 1 :] for cell in row)
    above, below = (folder / "table1.md").read_text().split(f"## {tables.EXTENSION}")
    assert "ModernBERT" not in above
    assert below.count("ModernBERT") == 4
    assert "paper's" in above  # the caption comes first


def test_tex_is_well_formed(full):
    _, folder = full
    text = (folder / "table1.tex").read_text()
    widths = {len(row) for row in tex_rows(text)}
    assert widths == {12, 1}  # 1: the heading of the extensions
    escaped = re.sub(r"\\[{}]", "", text)
    depth = 0
    for character in escaped:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    opened, closed = (re.findall(rf"\\{word}{{(.*?)}}", text) for word in ("begin", "end"))
    assert opened == ["table", "tabular"] == closed[::-1]
    caption = re.search(r"\\caption{(.*)}\n", text).group(1)
    assert r"CPU\_64 \& 100\% \{busy\} \#1 \textbackslash{}o/ \textasciitilde{}" in caption
    assert not re.search(r"(?<!\\)[%_#&]", caption)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_tex_compiles_and_fits_the_page(full, tmp_path):
    shutil.copy(full[1] / "table1.tex", tmp_path)
    (tmp_path / "page.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table1.tex}\end{document}"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "page.tex"]
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert log.returncode == 0, log.stdout[-2000:]
    assert "Overfull" not in log.stdout


def test_caption_says_what_was_run(full):
    caption = (full[1] / "table1.md").read_text().split("\n")[0]
    for words in (
        "small scale: the embedded synthetic language, 2 layers of width 128",
        "1350 to 3750 steps of priming and 4200 of pre-training",
        "mean of MNLI, QQP, QNLI, MRPC, STS-B, RTE, SST-2.",
        "over 5 composition seeds (which instances are multiplexed together), averaged over 3 training",
        "then (in LaTeX above) over the training seeds",
        "all 15 pairs",
        "over bert-base",
        f"on {DEVICE}, 2 threads, bf16, batches of 120 instances of 32 tokens",
    ):
        assert words in caption


def test_some_tasks_only(tmp_path):
    settings = settings_for(tmp_path, tasks=["rte", "sst2", "cola"], training_seeds=[7])
    fabricate(settings)
    tables.build("table1", settings)
    text = (tmp_path / "tables" / "table1.md").read_text()
    assert "GLUE: mean of RTE, SST-2 (the paper's: of all 7 tasks)." in text
    assert "Token was not measured." in text
    table = tidy(tmp_path / "tables")
    by_loops = by_hand(settings, "tmux-base-n2", ["rte", "sst2"])
    assert close(table["tmux-base-n2", "GLUE"]["measured"], by_loops["measured"])
    assert table["tmux-base-n2", "GLUE"]["std_training"] == ""  # one training seed has no spread
    assert table["tmux-base-n2", "Token"]["measured"] == ""
    assert table["tmux-base-n2", "Token"]["n"] == "0"
    row = next(line for line in text.splitlines() if line.startswith("| T-MUX"))
    assert [cell.strip().strip("*") for cell in row.split("|")][7:11] == [
        *("-", "81.4 (0.1)", "-", "81.5"),
    ]


def test_n_that_the_paper_lacks(tmp_path):
    settings = settings_for(tmp_path, instances=[3], families=["mux-bert"], tasks=["ner"])
    fabricate(settings)
    tables.build("table1", settings)
    _, row = tex_rows((tmp_path / "tables" / "table1.tex").read_text())
    assert row[:3] == ["MUX-BERT", "3", "-"]
    assert row[3::2] == ["-"] * 5


def test_only_extensions(tmp_path):
    settings = settings_for(tmp_path, families=["modernbert"], tasks=["ner"])
    fabricate(settings)
    tables.build("table1", settings)
    text = (tmp_path / "tables" / "table1.tex").read_text()
    assert text.count(r"\midrule") == 2  # under the headings, and under the majority class


def test_mistakes_are_named(tmp_path):
    settings = settings_for(tmp_path, families=["bert"], tasks=["rte"])
    path = settings.paths.scores("bert-base", "rte")
    with pytest.raises(DataError, match=f"(?s){path}.*snakemake --cores all {path}"):
        tables.build("table1", settings)
    fabricate(settings)
    Path(settings.paths.throughput("base")).unlink()
    with pytest.raises(DataError, match=r"snakemake --cores all .*throughput/base\.json"):
        tables.build("table1", settings)
    write(settings.paths.throughput("base"), {"models": {}})
    with pytest.raises(DataError, match="no bert-base"):
        tables.build("table1", settings)
    seeds = settings_for(tmp_path, families=["bert"], tasks=["rte"], training_seeds=[1, 2, 3, 4])
    with pytest.raises(DataError, match=r"lacks .*\[\(4, 1\), "):
        tables.build("table1", seeds)
    shape = {"small": settings.shapes["base"].model_dump()}
    with pytest.raises(DataError, match=r"table1 has nothing to show .*; base;"):
        tables.build("table1", settings_for(tmp_path, sizes=["small"], shapes=shape))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["table", "tabel1"], "table 'tabel1' is not one of the package's; did you mean 'table1'?"),
        (
            ["figure", "pareto"],
            "figure 'pareto' is not one of the package's; did you mean 'pareto_glue'?",
        ),
        (["power", "--seeds", "3,one"], "--seeds '3,one': give numbers from 2 on, such as 2,3,5"),
    ],
)
def test_a_name_that_is_not_is_one_sentence(command, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["muxplm", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == f"muxplm: {message}\n"


def test_seeds_outside_the_config_do_not_count(full):
    fewer = settings_for(full[0].results, training_seeds=[2], composition_seeds=[1, 4])
    variant = Variant("mux-bert", n=2)
    scores = read_scores(fewer, [variant], ["rte"])
    assert set(zip(scores["training_seed"], scores["composition_seed"], strict=True)) == {
        *((2, 1), (2, 4)),
    }
    assert aggregate(headline(scores))["n"] == 2


def test_an_undefined_score_is_not_left_out(full):
    scores = headline(read_scores(full[0], [Variant("mux-bert", n=2)], ["rte", "sst2"]))
    scores.iloc[0, scores.columns.get_loc("value")] = math.nan
    assert all(math.isnan(aggregate(scores)[key]) for key in ("mean", "max", "average_max"))


def test_reporting_imports_no_torch():
    code = "import sys, muxplm.reporting.tables; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": "src"}, cwd=ROOT, check=True)


# The paper's numbers


def test_how_many_numbers_each_table_has():
    sizes = {name: len(paper.reference(f"table{name}")) for name in range(1, 15)}
    assert sizes == dict(
        zip(range(1, 15), (55, 44, 27, 36, 18, 18, 68, 12, 132, 132, 44, 132, 99, 99), strict=True)
    )
    assert paper.reference("table2")["value"].isna().sum() == 3
    with pytest.raises(DataError, match="table15"):
        paper.reference("table15")


def test_look_ups():
    assert paper.mean_cell("table1", Variant("mux-bert", n=2), "GLUE") == (82.5, 0.6)
    assert paper.max_cell("table1", Variant("mux-bert", n=2), "GLUE")[0] == 83.4
    assert paper.mean_cell("table1", Variant("electra"), "speedup")[0] == 1.0
    assert paper.mean_cell("table1", Variant("mux-bert", "small", 2), "speedup") is None
    prefix = Variant("mux-bert", n=2, demultiplexer="prefix")
    assert paper.mean_cell("table1", prefix, "speedup") is None
    assert paper.mean_cell("table1", Variant("mux-modernbert", n=2), "speedup") is None
    assert paper.mean_cell("table5", prefix, "GLUE")[0] == 83.2
    assert paper.mean_cell("table13", prefix, "cola") == (53.74, 1.0)
    assert paper.cell_anywhere(Variant("mux-bert", "large", 5), "sst2") == (88.65, 0.7)
    assert paper.cell_anywhere(Variant("mux-bert", "small", 2), "Token")[0] == 93.3
    assert paper.cell_anywhere(Variant("mux-bert", n=2), "pos") is None
    assert paper.cell_anywhere(prefix, "sst2") is None


def inconsistencies() -> str:
    return " ".join((ROOT / "docs" / "paper-inconsistencies.md").read_text().split())


def test_gaps_that_the_text_has_otherwise():
    """docs/paper-inconsistencies.md: ELECTRA's Token, 5.1; the abstract's drop; 16 %, 5.1."""
    page = inconsistencies()
    printed = paper.reference("table1").set_index(["Model", "N", "column"])["value"]

    def loss(plain, model, n, average):
        return (
            printed[plain, 1, f"{average}/Mean (std)"] - printed[model, n, f"{average}/Mean (std)"]
        )

    token = [round(loss("ELECTRA", "MUX-ELECTRA", n, "Token"), 1) for n in (2, 10)]
    assert token == [0.3, 3.6]
    assert (
        "as 0.2; Table 1 gives 0.3. For N = 10 the text has 3.5 points, Table 1 gives 3.6" in page
    )

    full = {"BERT": by_task(9).loc["BASE"], "ELECTRA": by_task(11)}
    losses = {
        model: [rows.loc[1, AVERAGE] - rows.loc[n, AVERAGE] for n in (2, 5)]
        for model, rows in full.items()
    }
    assert [f"{value:.1f}" for value in losses["BERT"]] == ["2.9", "5.1"]
    assert [f"{value:.1f}" for value in losses["ELECTRA"]] == ["-0.3", "2.4"]
    shares = [100 * value / full["BERT"].loc[1, AVERAGE] for value in losses["BERT"]]
    assert [f"{value:.1f}" for value in shares] == ["3.4", "6.0"]
    means = [mean(pair) for pair in zip(*losses.values(), strict=True)]
    assert [f"{value:.1f}" for value in means] == ["1.3", "3.7"]
    assert "MUX-BERT loses 2.9 and 5.1 points of GLUE, which is 3.4 and 6.0 %" in page
    assert "MUX-ELECTRA -0.3 and 2.4. The sentence is true of the mean of both models: 1.3" in page
    pairs = [("BERT", "MUX-BERT"), ("ELECTRA", "MUX-ELECTRA")]
    assert max(loss(*pair, n, "Token") for pair in pairs for n in (2, 5)) == pytest.approx(2.2)

    faster = [
        f"{100 * printed[model, 10, 'speedup'] / printed['T-MUX', 10, 'speedup'] - 100:.1f} %"
        for model in ("MUX-BERT", "MUX-ELECTRA")
    ]
    assert faster == ["16.7 %", "15.5 %"]
    assert all(words in page for words in ("9.8 / 8.4 is 16.7 %", "9.7 / 8.4 is 15.5 %"))


def test_no_gain_by_ensembling_grows_from_5_to_10():
    gains = paper.reference("table4").set_index(["Model", "Mux (N)", "column"])["value"]
    for model, task in ((m, t) for m in ("MUX-BERT", "MUX-ELECTRA") for t in ("MNLI", "QQP")):
        assert gains[model, 10, f"{task}/delta"] <= gains[model, 5, f"{task}/delta"]
    assert "no gain grows from N = 5 to N = 10" in inconsistencies()


def by_task(number: int) -> pd.DataFrame:
    table = paper.reference(f"table{number}")
    keys = [column for column in table.columns if column not in ("column", "value", "std")]
    return table.pivot(index=keys, columns="column", values="value")


@pytest.mark.parametrize("number", [9, 10, 11, 12, 13, 14])
def test_averages_are_those_of_their_columns(number):
    table = by_task(number)
    found = {}
    for average, columns in ((AVERAGE, SEVEN), ("GLUE", [*SEVEN, "WNLI", "COLA"])):
        for row, values in table.iterrows():
            recomputed = mean(values[column] for column in columns)
            if abs(recomputed - values[average]) > 0.01 + 1e-9:
                found[number, row, average] = values[average], recomputed
    assert found == {k: v for k, v in AVERAGES_THAT_DISAGREE.items() if k[0] == number}


def base_rows() -> dict:
    """(model, N) -> that row's numbers in the appendix, for the multiplexed base models."""
    rows = {}
    for model, number in (("MUX-BERT", 9), ("T-MUX", 14), ("MUX-ELECTRA", 11)):
        table = paper.reference(f"table{number}")
        if "Model Size" in table:
            table = table[table["Model Size"] == "BASE"]
        for n in (2, 5, 10):
            rows[model, n] = table[table["N"] == n].set_index("column")
    return rows


def test_table1_has_the_means_of_the_appendix_and_the_means_of_its_stds():
    printed = paper.reference("table1").set_index(["Model", "N", "column"])
    differ = {}
    for (model, n), row in base_rows().items():
        value, spread = printed.loc[(model, n, "GLUE/Mean (std)"), ["value", "std"]]
        assert value == pytest.approx(row.loc[AVERAGE, "value"], abs=0.05 + 1e-9)
        recomputed = mean(row.loc[SEVEN, "std"])
        if abs(recomputed - spread) > 0.05 + 1e-9:
            differ[model, n] = spread, round(recomputed, 2)
        # The std of the average would be half as large, if tasks vary independently.
        assert math.sqrt(sum(row.loc[SEVEN, "std"] ** 2)) / 7 < 0.65 * recomputed
    assert differ == STDS_THAT_DISAGREE


def test_table1_has_the_mean_of_each_tasks_maximum():
    maxima = by_task(10)
    printed = paper.reference("table1").set_index(["Model", "N", "column"])["value"]
    tickets = paper.reference("table6").set_index(["N", "column"])["value"]
    for n in (2, 5, 10):
        recomputed = mean(maxima.loc[("BASE", n), SEVEN])
        assert printed["MUX-BERT", n, "GLUE/Max"] == pytest.approx(recomputed, abs=0.05)
        assert tickets[n, "MUX-BERT/Best ticket"] == printed["MUX-BERT", n, "GLUE/Max"]


def test_tables_9_and_13_differ_in_one_std():
    keys = ["N", "column"]
    nine = paper.reference("table9").query("`Model Size` == 'BASE' and N > 1").set_index(keys)
    other = paper.reference("table13").query("`Mux Strategy` == 'MUX-BERT'").set_index(keys)
    assert (nine["value"] == other["value"]).all()
    stds = pd.DataFrame({"nine": nine["std"], "thirteen": other["std"]}).dropna()
    differ = stds[stds["nine"] != stds["thirteen"]]
    assert differ.to_dict("index") == {(5, "RTE"): {"nine": 2.2, "thirteen": 1.2}}


def possible(average: float, spread: float, ddof: int, rows=71, seeds=5) -> bool:
    """Whether `seeds` accuracies on `rows` rows can have this mean and, to 0.1, this std (in %)."""
    total = round(average / 100 * rows * seeds)
    least = math.ceil(total**2 / seeds)
    # The sum of squares of whole numbers is odd if and only if their sum is.
    squares = (q for q in range(least, least + rows**2) if q % 2 == total % 2)
    stds = (100 / rows * math.sqrt((q - total**2 / seeds) / (seeds - ddof)) for q in squares)
    return any(abs(value - spread) <= 0.05 + 1e-9 for value in stds)


def test_the_papers_std_divides_by_the_number_of_seeds():
    keys = ("table9", "table11", "table12", "table13", "table14")
    all_tables = pd.concat(paper.reference(name) for name in keys)
    wnli = all_tables[all_tables["column"] == "WNLI"].drop_duplicates(["value", "std"])
    pairs = list(zip(wnli["value"], wnli["std"], strict=True))
    assert all(possible(*pair, ddof=0) for pair in pairs)
    refuted = [pair for pair in pairs if not possible(*pair, ddof=1)]
    assert refuted == [(54.65, 3.3), (53.52, 2.5), (53.24, 1.6), (60.28, 3.0), (58.59, 3.3)]
