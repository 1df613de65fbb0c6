"""docs/extending.md is done as it says, section by section, on copies of the package."""

import json
import shlex
import sys
from pathlib import Path
from statistics import mean

import extending
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fabricated import settings_for
from safetensors.torch import load_file
from test_workflow import Copy, stages_of

from muxplm import dryrun, experiments, model_config
from muxplm.data import synthetic
from muxplm.experiments import Family, Variant
from muxplm.models.build import new_model
from muxplm.reporting import paper
from muxplm.tasks import GLUE, GLUE_AVERAGED, TOKEN

TESTS = Path(__file__).parent
TINY = {
    "sizes": ["base"],
    "max_length": 24,
    "tokenizer": {"vocab_size": 300},
    "shapes": {"base": {"layers": 1, "hidden": 16, "heads": 2, "intermediate": 32}},
    "prime": {"steps": 1, "rows": 4},
    "pretrain": {"steps": 1, "rows": 4},
    "throughput": {"batch": 4, "length": 16, "batches": 1, "trials": 1, "micro_batches": [2]},
}
STEPS = """
import shlex, sys
from muxplm.cli import app
for line in sys.argv[1:]:
    app(shlex.split(line), standalone_mode=False)
"""
BUILD = """
import sys
sys.path.append({tests!r})
from fabricated import fabricate
from muxplm import config
from muxplm.reporting.figures import draw
from muxplm.reporting.tables import build
settings = config.load()
fabricate(settings, {name!r})
{call}({name!r}, settings)
"""


def extended(folder: Path, title: str) -> Copy:
    copy = Copy(folder)
    extending.section(title).add_to(folder)
    return copy


def run(copy: Copy, code: str, *arguments: str) -> str:
    done = copy.run(sys.executable, "-c", code, *arguments)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def mirror_with(folder: Path, task: str, **rows: dict):
    """A mirror of the Hub: the synthetic corpus, and one task's rows by split."""
    for name, columns in {f"{task}/{split}": of for split, of in rows.items()}.items():
        file = folder / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns).to_parquet(file)
    (folder / "corpus").mkdir()
    pd.DataFrame({"text": list(synthetic.corpus(200, seed=1))}).to_parquet(
        folder / "corpus/a.parquet"
    )


# --- What each section's commands would run ------------------------------------------------------

TRAINED = ("prime", "pretrain", "finetune", "score")
PLANNED = {
    "A multiplexer": stages_of("mux-bert-base-n5-sign", *TRAINED)
    | {("tables", "table5"), ("throughput", "ablations")},
    "An encoder": stages_of("mux-deberta-base-n10", *TRAINED)
    | stages_of("deberta-base", *TRAINED[1:])
    | {("tables", "table1"), ("throughput", "base")},
    "A task": {("task_data", "boolq-train"), ("task_data", "boolq-validation")}
    | stages_of("modernbert-base", *TRAINED[1:])
    | {("tables", "tasks")},
    "A table": stages_of("electra-base", "finetune", "score") | {("tables", "pairs")},
    "A figure": stages_of("tmux-base-n10", "finetune", "score") | {("figures", "score_by_n")},
}


@pytest.mark.parametrize("title", extending.titles())
def test_its_commands_plan_what_it_adds(title, tmp_path):
    copy = extended(tmp_path, title)
    (tmp_path / "DIR").mkdir()
    for command in extending.section(title).commands:
        program, *words = shlex.split(command)
        flags = ["--dry-run"] if program == "snakemake" else []
        done = copy.run(program, *flags, *words)
        assert done.returncode == 0, done.stdout[-3000:]
        if program == "snakemake":
            jobs = {(job.stage, job.model) for job in dryrun.parse(done.stdout)}
            assert PLANNED[title] <= jobs
    assert {stage for stage, _ in jobs} & {"tables", "figures"}


# --- An encoder ----------------------------------------------------------------------------------


def test_another_encoder_trains_multiplexed_and_plain(tmp_path):
    copy = extended(tmp_path, "An encoder")
    families = {"families": ["deberta", "mux-deberta"], "instances": [1, 2], "tasks": ["sst2"]}
    own = copy.write("tiny.yaml", {**TINY, **families, "finetune": {"steps": {"sst2": 1}}})
    files = "--config config/smoke.yaml --config deberta.yaml --config " + own
    plain, multiplexed = "deberta-base", "mux-deberta-base-n2"
    steps = ["task-data sst2 train", "task-data sst2 validation", "tokenizer", "blocks"]
    steps += [f"pretrain {plain}", f"prime {multiplexed}", f"pretrain {multiplexed}"]
    for model in (plain, multiplexed):
        steps += [f"finetune {model}", f"score {model}", f"muxology {model}"]
    run(copy, STEPS, *(f"{step} {files}" for step in [*steps, "throughput base"]))
    results = tmp_path / "results/smoke"
    config = json.loads((results / "pretrain" / multiplexed / "config.json").read_text())
    assert config["model_type"] == "muxplm"
    assert config["encoder"]["model_type"] == "deberta-v2"
    assert config["encoder"]["pos_att_type"] == ["p2c", "c2p"]
    folders = [results / stage / multiplexed for stage in ("prime", "pretrain")]
    before, after = (load_file(folder / "model.safetensors") for folder in folders)
    name = "model.encoder.encoder.rel_embeddings.weight"  # which no other encoder has
    assert not torch.equal(before[name], after[name])
    for model in (plain, multiplexed):
        summary = json.loads((results / "scores" / model / "sst2.json").read_text())
        assert summary["rows"] == 37 and summary["scores"]


@pytest.mark.parametrize("demultiplexer", ["rsa", "prefix"])
def test_roberta_has_a_position_for_every_token(demultiplexer, tmp_path, monkeypatch, tokenizer):
    """It counts positions from the padding id on; a row of full length needs the last of them."""
    family = Family("MUX-RoBERTa", "roberta", "mlm", multiplexed=True)
    monkeypatch.setitem(experiments.FAMILIES, "mux-roberta", family)
    monkeypatch.setattr(model_config, "prefix_token_ids", lambda _, n: list(range(40, 41 + n)))
    settings = settings_for(tmp_path, max_length=24)
    variant = Variant("mux-roberta", n=2, demultiplexer=demultiplexer)
    config = model_config.model_config(settings, variant, tokenizer)
    assert config.max_tokens == settings.max_length
    model = new_model("mlm", config)
    logits = model(torch.full((2, settings.max_length), 7)).logits
    assert logits.shape == (2, settings.max_length, len(tokenizer))
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        model(torch.full((2, config.max_tokens + 1), 7))


# --- A task --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def boolq(tmp_path_factory):
    """A copy with the page's task, its code above the paper's averages, and a mirror that has it."""
    copy = Copy(tmp_path_factory.mktemp("boolq"))
    ((path, code),) = extending.section("A task").additions.items()
    file, line = copy.folder / path, "GLUE, TOKEN = ("
    above, below = file.read_text().split(line)
    extending.section("A task").add_to(copy.folder)
    file.write_text(f"{above}{code}\n\n{line}{below}")
    words, rows = np.random.default_rng(0), {}
    for split, size, ones in (("train", 40, 30), ("validation", 37, 25)):
        texts = [" ".join(words.choice(["red", "dog", "runs"], 5)) for _ in range(size)]
        labels = [1] * ones + [0] * (size - ones)
        rows[split] = {"question": texts, "passage": texts, "label": labels}
    mirror_with(copy.folder / "mirror", "boolq", **rows)
    return copy


def test_another_task_is_trained_scored_and_shown(boolq):
    own = {"data_folder": "mirror", "families": ["bert", "modernbert"], "tasks": ["boolq"]}
    training = {"finetune": {"steps": {"boolq": 3}, "rows": 4}}
    name = boolq.write("tiny.yaml", {**TINY, **own, **training})
    files = f"--config config/local.yaml --config boolq.yaml --config {name}"
    steps = ["task-data boolq train", "task-data boolq validation", "tokenizer", "blocks"]
    for model in ("bert-base", "modernbert-base"):
        steps += [f"{step} {model}" for step in ("pretrain", "finetune", "score")]
    run(boolq, STEPS, *(f"{step} {files}" for step in [*steps, "throughput base", "table tasks"]))
    results = boolq.folder / "results/local"
    summary = json.loads((results / "scores/bert-base/boolq.json").read_text())
    assert (summary["metric"], summary["rows"]) == ("accuracy", 37)
    assert summary["majority"]["accuracy"] == pytest.approx(25 / 37)
    finetuned = results / "finetune/bert-base/boolq/seed1/config.json"
    assert json.loads(finetuned.read_text())["id2label"] == {"0": "False", "1": "True"}
    table = pd.read_csv(results / "tables/tasks.csv").set_index(["model", "column"])
    accuracy = mean(run["metrics"]["accuracy"] for run in summary["scores"])
    assert table.loc[("bert-base", "boolq"), "measured"] == pytest.approx(100 * accuracy, abs=1e-3)
    shown = (results / "tables/tasks.md").read_text()
    assert "| BoolQ" in shown and "paper |" not in shown
    assert shown.index("BERT ") < shown.index("## Extension") < shown.index("| ModernBERT")


def test_another_task_is_no_part_of_the_papers_averages(boolq):
    code = "from muxplm.reporting.cells import GROUPS; import json; print(json.dumps(GROUPS))"
    groups = json.loads(run(boolq, code))
    assert groups == {"GLUE": [*GLUE_AVERAGED], "GLUE-all": [*GLUE], "Token": [*TOKEN]}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("synthetic", "tasks: the synthetic language has no boolq"),
        ("hub", "tasks: no data set of the Hub is named for boolq in hub.TASKS"),
    ],
)
def test_a_source_without_the_task_says_so(boolq, source, said):
    own = yaml.safe_load((boolq.folder / "boolq.yaml").read_text()) | {"data": {"source": source}}
    done = boolq.run("muxplm", "plan", "--configfile", boolq.write("other.yaml", own))
    assert done.returncode == 1 and said in done.stdout


# --- A table and a figure ------------------------------------------------------------------------


def scores_of(copy: Copy, model: str, task: str) -> float:
    """The mean, in points of 100."""
    content = json.loads((copy.folder / f"results/scores/{model}/{task}.json").read_text())
    return 100 * mean(run["metrics"][content["metric"]] for run in content["scores"])


def test_another_table_is_built(tmp_path):
    copy = extended(tmp_path, "A table")
    run(copy, BUILD.format(tests=str(TESTS), name="pairs", call="build"))
    table = pd.read_csv(tmp_path / "results/tables/pairs.csv").set_index(["model", "column"])
    for model in ("bert-base", "mux-electra-base-n5"):
        scores = [scores_of(copy, model, task) for task in ("mnli", "qqp", "qnli", "rte")]
        assert table.loc[(model, "mnli"), "measured"] == pytest.approx(scores[0], abs=1e-3)
        assert table.loc[(model, "mean"), "measured"] == pytest.approx(mean(scores), abs=1e-3)
    printed, _ = paper.mean_cell("table9", Variant("bert"), "mnli")
    assert table.loc[("bert-base", "mnli"), "paper"] == printed
    shown = (tmp_path / "results/tables/pairs.md").read_text()
    assert "Left out by this preset" not in shown
    (heading,) = (line for line in shown.splitlines() if line.startswith("| Model"))
    headings = [name.strip() for name in heading.strip("|").split("|")]
    assert [name for name in headings if "paper" not in name] == [
        *("Model", "N", "MNLI", "QQP", "QNLI", "RTE", "Mean")
    ]
    assert "\\label{tab:pairs}" in (tmp_path / "results/tables/pairs.tex").read_text()


def test_another_figure_is_drawn(tmp_path):
    copy = extended(tmp_path, "A figure")
    run(copy, BUILD.format(tests=str(TESTS), name="score_by_n", call="draw"))
    shown = pd.read_csv(tmp_path / "results/figures/score_by_n.csv").set_index(["label", "N"])
    assert len(shown) == 9
    scores = [scores_of(copy, "mux-electra-base-n5", task) for task in GLUE_AVERAGED]
    assert shown.loc[("MUX-ELECTRA", 5), "score"] == pytest.approx(mean(scores), abs=1e-3)
    assert (tmp_path / "results/figures/score_by_n.png").stat().st_size > 5000
    code = "from muxplm.reporting import captions; from muxplm import config; print("
    code += "captions.label('score_by_n'), captions.figure('score_by_n', config.load()))"
    assert run(copy, code).startswith("GLUE score by N GLUE score by N. Ours is small scale")
