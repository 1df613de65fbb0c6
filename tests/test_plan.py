"""The plan: its words, its formulas against real models, and what it reads from Snakemake."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertTokenizer

from muxplm import config as configuration
from muxplm import costs, dryrun, experiments, plan
from muxplm.axes import Axes
from muxplm.costs import Cost
from muxplm.dryrun import Job
from muxplm.files import DataError
from muxplm.model_config import model_config
from muxplm.models.build import new_model
from muxplm.settings import merge
from muxplm.tasks import TASKS
from muxplm.training.losses import part_of_loss

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # the default config is found from there


def read_settings(**changes):
    raw = yaml.safe_load((ROOT / configuration.DEFAULT).read_text())
    return configuration.validate(merge(raw, changes))


def job(stage, name="", inputs=(), outputs=("nowhere",), reason="Missing output files: nowhere"):
    return Job(stage, name, tuple(inputs), tuple(outputs), "no benchmark", reason)


# --- Formulas ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"[unused{i}]" for i in range(16)]
    words = special + [f"w{i}" for i in range(1000 - len(special))]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})


VARIANTS = experiments.grid(Axes(tuple(experiments.FAMILIES), ("base",), (1, 10), tuple(TASKS)))


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_those_of_the_real_model(name, tokenizer):
    shape = {"layers": 4, "hidden": 128, "intermediate": 512, "embedding": 64}
    settings = read_settings(
        families=list(experiments.FAMILIES), shapes={"base": shape}, max_length=64
    )
    variant = settings.variants[name]
    config = model_config(settings, variant, tokenizer)
    objectives = ["classification", "tagging", variant.recipe.objective or "retrieval"]
    for objective in objectives:
        model = new_model(objective, config)
        real = sum(parameter.numel() for parameter in model.parameters())
        assert costs.parameters(variant, settings, objective) == pytest.approx(real, rel=0.03)


def trained_on(variant):
    """By objective, the weight of the retrieval that a variant is trained with beside it."""
    recipe = variant.recipe
    found = dict.fromkeys(("classification", "tagging"), recipe.finetune_retrieval)
    if recipe.objective:
        found[recipe.objective] = variant.retrieval_rate
    return found | ({"retrieval": 0.0} if recipe.multiplexed else {})


def counted(model, objective, rows, length):
    """Of a forward pass of `rows` rows with their loss, a quarter of the tokens masked, by torch."""
    ids = torch.randint(30, 900, (rows, length))
    batch = {"input_ids": ids, "labels": torch.zeros(rows, dtype=int)}
    if objective != "classification":
        batch["labels"] = torch.zeros_like(ids)
    if objective == "mlm":
        batch["labels"][:, torch.arange(length) % 4 > 0] = -100
    with FlopCounterMode(display=False) as counter:
        part_of_loss(model.train(), batch, (1, 1))
    return counter.get_total_flops()


RATED = "mux-bert-large-n10-retrieval0.5"


@pytest.mark.parametrize("name", [*VARIANTS, RATED])
def test_flops_are_those_that_torch_counts(name, tokenizer):
    shape = {"layers": 4, "hidden": 128, "intermediate": 512, "embedding": 64}
    settings = read_settings(
        families=list(experiments.FAMILIES), shapes={"base": shape, "large": shape}
    )
    variant = settings.variants[name]
    for objective, beside in trained_on(variant).items():
        config = model_config(settings, variant, tokenizer)
        config.retrieval_weight = beside
        config._attn_implementation = "eager"  # torch counts no sdpa of a CPU
        real = counted(new_model(objective, config), objective, 4 * variant.n, 32) / 4
        flops = costs.row_flops(variant, settings, objective, 32, mask_rate=0.25)
        if beside:
            flops += costs.head_flops(variant, settings, "retrieval", 32)
        assert flops == pytest.approx(real, rel=0.035), objective


def test_what_is_read_back_beside_a_training_is_counted():
    settings = read_settings()
    rated, without = (
        costs.training_flops("pretrain", name, settings)
        for name in (RATED, RATED.rsplit("-", 1)[0])
    )
    steps = costs.BACKWARD * settings.pretrain.rows * settings.pretrain.steps
    head = costs.head_flops(settings.variants[RATED], settings, "retrieval", settings.max_length)
    assert rated - without == pytest.approx(steps * head)

    tmux, length = settings.variants["tmux-base-n10"], settings.task_length
    steps = costs.BACKWARD * settings.finetune.rows * settings.finetune.steps["sst2"]
    one = costs.row_flops(tmux, settings, "classification", length)
    one += costs.head_flops(tmux, settings, "retrieval", length)
    assert costs.finetuning_flops(tmux.name, "sst2", settings) == pytest.approx(steps * one)


def test_flops_are_six_for_each_weight_and_position():
    # One very deep plain encoder: the head and the vocabulary hardly count beside it.
    settings = read_settings(
        shapes={"base": {"layers": 64}}, finetune={"rows": 1, "min_instances": 1}
    )
    variant = settings.variants["bert-base"]
    layers = 64 * costs.layer_parameters(variant, settings.shapes["base"])
    attention = 64 * 12 * 128 * 32 / 6  # per position: 12 x hidden x length, as 6 x weights
    seeds = len(settings.training_seeds)
    expected = 6 * (layers + attention) * 32 * settings.finetune.steps["sst2"] * seeds
    by_task = read_settings(
        shapes={"base": {"layers": 64}}, finetune={"rows": 1, "min_instances": 1}, bundle="task"
    )
    assert costs.job_flops(job("finetune", "bert-base/sst2"), by_task) == pytest.approx(expected)


def test_multiplexing_makes_a_scored_instance_cheaper():
    settings = read_settings()
    one = costs.row_flops(settings.variants["bert-base"], settings, "classification", 32)
    ten = costs.row_flops(settings.variants["mux-bert-base-n10"], settings, "classification", 32)
    assert one < ten < 1.5 * one  # a sequence costs a little more but carries ten instances


def test_gpus_share_a_job_and_are_counted():
    alone = costs.cost(job("prime", "mux-bert-base-n2"), read_settings(plan={"startup_seconds": 0}))
    settings = read_settings(plan={"startup_seconds": 0}, resources={"prime": {"gpu": 4}})
    shared = costs.cost(job("prime", "mux-bert-base-n2"), settings)
    assert shared.seconds == pytest.approx(alone.seconds / 4)
    printed = plan.stage_table(
        {job("prime", "mux-bert-base-n2"): Cost(9000, False, 0, 0)}, settings
    )
    assert "GPU-hours" in printed and "2.5" in printed and "10.0" in printed


def test_the_longest_chain_follows_the_files():
    first, second = job("prime", "a", outputs=("x",)), job("pretrain", "a", ("x",), ("y",))
    apart = job("prime", "b", outputs=("z",))
    seconds = {j: Cost(s, False, 0, 0) for j, s in ((first, 10.0), (second, 5.0), (apart, 12.0))}
    assert costs.longest_chain(seconds) == 15.0


def test_what_waits_for_a_job():
    settings = read_settings(
        instances=[1, 2, 10], finetune={"min_instances": 1}
    )  # as many rows at all N
    ahead, name = costs.seconds_ahead(settings), "mux-bert-base-n10"
    jobs = [job("prime", name), job("pretrain", name), job("score", f"{name}/averaged")]
    seconds = [costs.cost(j, settings).seconds for j in jobs]
    trained = (
        settings.plan.startup_seconds
        + costs.job_flops(job("finetune", f"{name}/averaged"), settings) / settings.plan.flops
    )
    assert ahead["finetune", name] == pytest.approx(trained + seconds[2])
    chain = sum(seconds) + trained
    # T-MUX and the prefix ablation are primed alike, in one job, which the longer of them waits for.
    assert ahead["prime", name] == pytest.approx(chain)
    prefix = "mux-bert-base-n10-prefix"
    assert ahead["prime", "tmux-base-n10"] == ahead["prime", prefix]
    assert ahead["prime", prefix] > ahead["pretrain", prefix] > ahead["finetune", prefix]
    assert ahead["prime", name] > ahead["prime", "mux-bert-base-n2"]


def test_a_measured_time_is_preferred_unless_the_training_changed(tmp_path):
    file = tmp_path / "benchmark.tsv"
    file.write_text("s\th:m:s\tmax_rss\n123.5\t0:02:03\t1.0\n")
    outputs = (str(file),)  # any file that exists
    for reason, measured in (("Updated input files: x", True), ("Params have changed", False)):
        again = Job("prime", "mux-bert-base-n2", (), outputs, str(file), reason)
        cost = costs.cost(again, read_settings())
        assert cost.measured == measured
        assert (cost.seconds == 123.5) == measured


# --- Snakemake's words -------------------------------------------------------------------------

PRINTED = """
rule pretrain:
    input: a, b
    output: {existing}
    log: results/logs/pretrain/m.log
    jobid: 2
    benchmark: results/benchmarks/pretrain/m.tsv
    reason: Params have changed since last execution: before: 1 now: 2
    wildcards: model=m
    resources: tmpdir=/tmp, runtime=30
[Fri Nov 20 23:33:21 2026]
rule all:
    input: a
    jobid: 0
    reason: Input files updated by another job: a
    resources: tmpdir=/tmp
"""


def test_jobs_are_read_from_the_dry_run(tmp_path):
    (tmp_path / "weights").touch()
    (found,) = dryrun.parse(PRINTED.format(existing=tmp_path / "weights"))
    assert (found.stage, found.name, found.inputs) == ("pretrain", "m", ("a", "b"))
    assert found.repeated
    assert found.why == "settings changed"


def test_a_job_without_results_is_new():
    (found,) = dryrun.parse(PRINTED.format(existing="nowhere"))
    assert not found.repeated
    assert found.why == "new"


def test_a_repeated_training_is_named(tmp_path):
    (tmp_path / "weights").touch()
    again = job(
        "prime", "mux-bert-base-n2", (), (str(tmp_path / "weights"),), "Params have changed"
    )
    text = " ".join(plan.remarks({again: Cost(1.0, False, 0, 0)}, read_settings()))
    assert "would repeat (results exist): mux-bert-base-n2 (prime: settings changed)" in text


def test_nothing_to_do_is_said(monkeypatch):
    monkeypatch.setattr(plan, "dry_run", lambda *_: [job("tokenizer")] if "--forceall" in _ else [])
    text = plan.plan([], ["all"], [])
    assert text.splitlines()[-1] == "  Nothing to do: all 1 jobs are up to date."


# --- The whole ---------------------------------------------------------------------------------


def test_pruned_models_are_counted_on_their_own_tasks():
    """PruMUX's grid at the paper's scale: 4 tasks, 4 N, 5 sparsities, 5 seeds, no dense model more."""
    files = [ROOT / "config/paper.yaml", ROOT / "config/paper-pruned.yaml"]
    dense, pruned = (configuration.load(files[:count]) for count in (1, 2))
    assert (
        "40 models x 11 tasks x 5 training seeds = 2,200 fine-tuned" in plan.describe([], dense)[0]
    )
    assert "= 2,200 fine-tuned models and 400 pruned ones, scored" in plan.describe([], pruned)[0]
    assert plan.describe([dense.paths.table("table1", "md")], dense) == plan.describe(
        [pruned.paths.table("table1", "md")], pruned
    )
    cell = costs.pruning_flops("mux-bert-base-n2-cofi0.95", "mnli", pruned)
    assert cell < costs.pruning_flops("mux-bert-base-n2-cofi0.6", "mnli", pruned)


@pytest.mark.smoke
def test_a_plan_says_what_would_run_and_writes_nothing(tmp_path):
    folders = [f"results={tmp_path}/results", f"scratch={tmp_path}/scratch"]
    text = plan.plan(["config/smoke.yaml"], [f"{tmp_path}/results/tables/table1.tex"], folders)
    assert not list(tmp_path.iterdir())
    assert max(map(len, text.splitlines()[1:])) <= 100
    assert "5 models x 6 tasks x 1 training seed = 30 fine-tuned models" in text
    assert "scored under 2 compositions" in " ".join(text.split())
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["prime"][1:3] == ["3", "3"]
    assert rows["finetune"][1:3] == ["5", "30"]
    assert rows["blocks"][-1] == rows["prime"][-1] == "new"
    assert re.search(r"Up to date: 0 of \d+ jobs", text)
    assert "unknown until tokenised" in text


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("configfiles", "targets", "overrides", "message"),
    [
        ([], ["all"], ["familes=x"], "familes: unknown key; did you mean 'families'?"),
        (["config/missing.yaml"], ["all"], [], "config/missing.yaml"),
        ([], ["results/tables/table99.tex"], [], "table99"),
    ],
)
def test_what_cannot_be_planned_is_one_line(configfiles, targets, overrides, message):
    with pytest.raises(DataError) as error:
        plan.plan(configfiles, targets, overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)


def test_planning_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from muxplm import dryrun, plan; "
        "dryrun.read_settings(['config/paper.yaml'], ['results=elsewhere']); "
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
