"""The grid: stable names, the paper's rows in the paper's order, and one place that spells them."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from muxplm import experiments
from muxplm.axes import Axes, PrunedAxes
from muxplm.experiments import FAMILIES, SIZES, TABLES, TIMED, Target, Variant
from muxplm.paths import Paths
from muxplm.stages import TRAININGS
from muxplm.tasks import AVERAGED, TASKS

ROOT = Path(__file__).parent.parent
PAPER = tuple(name for name, family in FAMILIES.items() if not family.extension)
EXTENSIONS = tuple(name for name, family in FAMILIES.items() if family.extension)
ALL = Axes(tuple(FAMILIES), SIZES, (1, 2, 5, 10), tuple(TASKS))


def names(table: str, axes: Axes) -> list[str]:
    return [variant.name for variant in experiments.targets()[table].variants(axes)]


# --- Names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        (Variant("bert"), "bert-base"),
        (Variant("electra"), "electra-base"),
        (Variant("mux-bert", n=2), "mux-bert-base-n2"),
        (Variant("mux-bert", n=5, multiplexer="contextual"), "mux-bert-base-n5-contextual"),
        (Variant("mux-bert", n=10, demultiplexer="prefix"), "mux-bert-base-n10-prefix"),
        (Variant("mux-bert", "large", 2, retrieval_rate=0.1), "mux-bert-large-n2-retrieval0.1"),
        (Variant("tmux", "small", 10), "tmux-small-n10"),
        (Variant("tmux", n=2, demultiplexer="rsa"), "tmux-base-n2-rsa"),
        (Variant("mux-modernbert", n=2), "mux-modernbert-base-n2"),
        (Variant("mux-bert", n=2, sparsity=0.6), "mux-bert-base-n2-cofi0.6"),
        (Variant("bert", sparsity=0.95, pruner="fisher"), "bert-base-fisher0.95"),
    ],
)
def test_names_show_what_differs_from_the_familys_default(variant, name):
    assert variant.name == name


def test_a_default_spelt_out_is_the_same_variant():
    assert Variant("mux-bert", n=2) == Variant("mux-bert", "base", 2, "hadamard", "rsa", 0.0)
    assert Variant("tmux", n=2) == Variant("tmux", n=2, demultiplexer="prefix")


def test_a_name_belongs_to_one_variant():
    found = {v for table in experiments.targets().values() for v in table.variants(ALL)}
    grid = experiments.grid(ALL)
    assert set(grid.values()) == found
    assert all(name == variant.name for name, variant in grid.items())


def test_pruned_rows_are_those_that_a_target_and_the_config_ask_for():
    """Table 2 has the paper's two; without any, nothing is left of the table about pruning."""
    pruned = PrunedAxes((0.6, 0.7), (1, 2), ("sst2",), ("cofi", "fisher"))
    axes = replace(ALL, pruned=pruned)
    found = [name for name in names("table2", axes) if name not in names("table2", ALL)]
    assert found == ["bert-base-cofi0.7", "mux-bert-base-n2-cofi0.6"]
    rows = TABLES["pruning"].variants(axes)
    assert len(rows) == 4 + 2 * 2 * 2 and {v.n for v in rows if v.sparsity} == {1, 2}
    assert all(v.parent in rows and v.stages == () for v in rows if v.sparsity)
    assert TABLES["pruning"].is_selected(axes) and not TABLES["pruning"].is_selected(ALL)
    assert names("table1", axes) == names("table1", ALL)
    other = replace(ALL, pruned=replace(pruned, tasks=("cola",)))
    assert names("table2", other) == names("table2", ALL)
    timed = [TABLES["table2"].timed_set(a) for a in (ALL, axes)]
    assert timed == ["base", "pruned"]
    assert set(names("table2", axes)) <= {v.name for v in TIMED["pruned"].variants(axes)}


def test_a_further_precision_is_another_way_to_serve_what_is_trained():
    """A row of the frontier more for each of its rows, and no training."""
    pruned = PrunedAxes((0.6,), (2,), ("sst2",), ("cofi",))
    axes = replace(ALL, pruned=pruned)
    more = replace(ALL, pruned=replace(pruned, precisions=("bf16", "int8")))
    rows = names("frontier", axes)
    assert names("frontier", more) == [
        *rows,
        *(f"{name}-{precision}" for name in rows for precision in ("bf16", "int8")),
    ]
    for target in ("table1", "table2", "pruning", "budgets"):
        assert names(target, more) == names(target, axes)
    grid, before = experiments.grid(more), experiments.grid(axes)
    assert set(before) < set(grid)
    for variant in grid.values():
        if variant.precision:
            assert (variant.stages, variant.last_stage) == ((), None)
            assert before[variant.trained.name] == variant.trained
            assert variant.parent == variant.trained.parent
        else:
            assert variant.trained == variant and variant.name in before


def test_names_can_stand_in_paths_and_in_wildcards():
    for name in experiments.grid(ALL):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9.]+)*", name)


# --- Stages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "stages", "before_pretraining", "before_finetuning"),
    [
        ("bert", ("pretrain",), None, "pretrain"),
        ("electra", ("pretrain",), None, "pretrain"),
        ("tmux", ("prime",), None, "prime"),
        ("mux-bert", ("prime", "pretrain"), "prime", "pretrain"),
        ("mux-electra", ("prime", "pretrain"), "prime", "pretrain"),
        ("modernbert", ("pretrain",), None, "pretrain"),
        ("mux-modernbert", ("prime", "pretrain"), "prime", "pretrain"),
    ],
)
def test_stages_of_each_family(family, stages, before_pretraining, before_finetuning):
    variant = Variant(family, n=2 if FAMILIES[family].multiplexed else 1)
    assert variant.stages == stages
    assert variant.stage_before("prime") is None
    if "pretrain" in stages:
        assert variant.stage_before("pretrain") == before_pretraining
    assert variant.stage_before("finetune") == before_finetuning


# --- Tables ------------------------------------------------------------------------------------


def test_table_1_has_the_papers_rows_in_the_papers_order():
    axes = Axes(PAPER, ("base",), (1, 2, 5, 10), tuple(TASKS))
    multiplexed = [
        f"{f}-base-n{n}" for n in (2, 5, 10) for f in ("tmux", "mux-bert", "mux-electra")
    ]
    assert names("table1", axes) == ["bert-base", "electra-base", *multiplexed]
    assert len(names("table1", axes)) == 11


def test_the_order_of_the_config_does_not_decide_the_order_of_rows():
    axes = Axes(PAPER[::-1], ("base",), (1, 2), tuple(TASKS)[::-1])
    assert names("table1", axes)[:2] == ["bert-base", "electra-base"]
    assert TABLES["table1"].selected_tasks(axes) == AVERAGED


def test_table_5_crosses_the_ablations_with_n():
    assert names("table5", Axes(PAPER, ("base",), (1, 2), ())) == [
        "mux-bert-base-n2",
        "mux-bert-base-n2-prefix",
        "mux-bert-base-n2-contextual",
    ]


def test_a_variant_can_be_left_out_of_every_target():
    name = "mux-bert-base-n10-contextual"
    grid = experiments.grid(ALL)
    assert experiments.grid(replace(ALL, without=(name,))) == {
        other: variant for other, variant in grid.items() if other != name
    }
    assert name in grid


def test_table_12_varies_the_retrieval_rate_of_the_large_model():
    assert names("table12", Axes(PAPER, SIZES, (2,), ())) == [
        "mux-bert-large-n2",
        *(f"mux-bert-large-n2-retrieval{rate}" for rate in ("0.1", "0.2", "0.5")),
    ]


def test_a_family_exists_in_its_sizes_only():
    assert not [
        name for name in experiments.grid(ALL) if re.match(r"(mux-)?electra-(small|large)", name)
    ]


def test_baselines_stand_at_n_1_and_multiplexed_models_above():
    for variant in experiments.grid(ALL).values():
        assert (variant.n > 1) == variant.recipe.multiplexed


@pytest.mark.parametrize("name", [n for n in experiments.targets() if n not in ("table1", "tasks")])
def test_extensions_are_never_among_the_papers_rows(name):
    assert not experiments.targets()[name].extensions
    assert not {v.family for v in experiments.targets()[name].variants(ALL)} & set(EXTENSIONS)


def test_table_1_shows_extensions_that_the_config_asks_for():
    shown = names("table1", Axes(("bert", "mux-modernbert", "modernbert"), ("base",), (1, 2), ()))
    assert sorted(shown) == ["bert-base", "modernbert-base", "mux-modernbert-base-n2"]


def test_a_table_lists_each_variant_once():
    table = Target("", ("bert", "mux-bert"), changes=({}, {"multiplexer": "hadamard"}))
    shown = [v.name for v in table.variants(Axes(PAPER, ("base",), (1, 2), ()))]
    assert shown == ["bert-base", "mux-bert-base-n2"]


# --- One place ---------------------------------------------------------------------------------


def test_paths_take_wildcards():
    paths = Paths("r", "s")
    assert paths.finetuned("{model}", "sst2", 1).format(model="bert-base") == paths.finetuned(
        "bert-base", "sst2", 1
    )


def test_no_two_results_share_a_path():
    paths = Paths()
    stages = [paths.checkpoint(stage, "m") for stage in TRAININGS]
    others = [paths.config("c"), paths.tokenizer, paths.blocks, paths.scores("m", "t")]
    others += [
        paths.task_data("t", "train"),
        paths.task_data("t", "validation"),
        paths.finetuned("m", "t", 1),
        paths.log("j"),
    ]
    others += [paths.throughput("s"), paths.ensembles("m", "t"), paths.compositions("m", "t")]
    others += [paths.muxology("m"), paths.claims("md"), paths.benchmark("j"), paths.shipped]
    others += [paths.table("t", "tex"), paths.figure("t", "pdf")]
    assert len({*stages, *others}) == len(stages) + len(others)
    assert all(path.startswith("results/") for path in [*stages, *others])
    assert paths.scratch_folder("prime", "m", "r").startswith("scratch/")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=lambda file: file.stem
)
def test_rules_spell_no_path_and_no_variant(file):
    text = file.read_text()
    spelt = [name for name in experiments.grid(ALL) if re.search(rf"\b{re.escape(name)}\b", text)]
    spelt += re.findall(r"\b(?:results|scratch)/\w*", text)
    spelt += [name for name in TASKS if re.search(rf"\b{name}\b", text)]
    assert not spelt


def test_the_grid_is_planned_without_torch():
    code = (
        "import sys; from muxplm import cli, config, experiments, lineage, plan; "
        "from muxplm.reporting import paper, scores, tables; "
        "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
