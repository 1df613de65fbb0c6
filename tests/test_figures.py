"""Figures over fabricated results: their data against plain loops, their pictures against the page."""

import json
import math
import os
import re
import struct
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path
from random import Random
from statistics import mean, pstdev, stdev

import numpy as np
import pandas as pd
import pytest
from fabricated import ROOT, over, settings_for, write
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from muxplm import experiments, lineage, tasks
from muxplm.experiments import SIZES
from muxplm.files import DataError
from muxplm.reporting import captions, figures, method, style
from muxplm.reporting.cells import Sources
from muxplm.reporting.pareto import standing

FIGURES = list(experiments.FIGURES)
WORLDS = ["full", "crowd", "base_only"]  # fixtures
LAYERS = {"small": 4, "base": 12, "large": 24}
FEW_LAYERS = {"small": 1, "base": 2, "large": 3}
PRUNED = {"sparsities": [0.6, 0.9], "tasks": ["qqp", "sst2", "ner"], "by": ["cofi", "fisher"]}
PRUNED |= {"precisions": ["int8"]}
FULL = {"sizes": list(SIZES), "composition_seeds": [1, 2], "pruned": PRUNED}


def read(path):
    return json.loads(Path(path).read_text())


# --- Results with the shapes that real ones have ------------------------------------------------


def graded(variant) -> float:
    """A score in 0..1 without noise, as a paper would like to have it."""
    level = 0.8 + 0.03 * SIZES.index(variant.size) - 0.06 * math.log(variant.n)
    return level - 0.1 * variant.sparsity**2 * (1 if variant.pruner == "cofi" else 3)


def crowded(variant) -> float:
    """Whatever is multiplexed stays near the majority class."""
    return graded(variant) if variant.n == 1 else 0.5


def fabricate(settings, level=graded, depths=LAYERS):
    """Scores of `level`, a little noise; throughput is near N times; losses decay."""
    random = Random(0)
    for variant in settings.variants.values():
        write_scores(settings, variant, random, level)
        write_muxology(settings, variant, random, depths)
        for stage in variant.stages:
            write_training(settings, variant, stage, random)
    for _, variant, task, seed in pruned_cells(settings):
        write_pruning(settings, variant, task, seed, random)
    for timed, target in experiments.TIMED.items():
        write_throughput(settings, timed, target.variants(settings.axes), random)


def seeds_of(settings):
    return product(settings.training_seeds, settings.composition_seeds)


def write_scores(settings, variant, random, level):
    for task in settings.tasks:
        metric = tasks.TASKS[task].metric
        runs = [
            {
                "training_seed": training,
                "composition_seed": composition,
                "copies": copies,
                "metrics": {
                    metric: level(variant) + 0.03 * math.log(copies) + random.gauss(0, 0.005)
                },
            }
            for training, composition in seeds_of(settings)
            for copies in range(1, variant.n + 1)
        ]
        who = {"model": variant.name, "task": task, "metric": metric, "rows": 400}
        scores = [run for run in runs if run["copies"] == 1]
        scored = {**who, "majority": {metric: 0.5}, "scores": scores}
        write(settings.paths.scores(variant.name, task), scored)
        if task in experiments.FIGURES["ensemble_tradeoff"].tasks:
            ensembled = {**who, "instances": variant.n, "runs": runs}
            write(settings.paths.ensembles(variant.name, task), ensembled)


def write_throughput(settings, timed, variants, random):
    models = {}
    for variant in variants:
        ratio = variant.n * 0.97 * (3.2, 1.0, 0.33)[SIZES.index(variant.size)]
        ratio /= 1 - 0.9 * variant.sparsity
        rounds = [ratio * random.uniform(0.97, 1.03) for _ in range(5)]
        models[variant.name] = {
            "instances_per_second": [412 * r for r in rounds],
            "speedup": over(rounds),
            "best": {"micro_batch": 40, "instances_per_second": 500 * ratio, "speedup": ratio},
        }
    content = {"reference": "bert-base", "precision": "bf16", "models": models}
    write(settings.paths.throughput(timed), content)


def write_muxology(settings, variant, random, depths):
    count = depths[variant.size]
    activations = [0.4 + 0.1 * i / count + random.gauss(0, 0.01) for i in range(count)]
    if variant.n > 1:
        activations[-1] += 0.15 + 0.3 * math.log(variant.n)
    entropy = [
        2.8 - (0.5 + 0.25 * math.log(variant.n)) * i / count + random.gauss(0, 0.05)
        for i in range(count)
    ]
    write(
        settings.paths.muxology(variant.name),
        {
            "model": variant.name,
            "instances": variant.n,
            "layers": count,
            "blocks": 200,
            "activations": activations,
            "entropy": entropy,
        },
    )


def write_training(settings, variant, stage, random):
    steps = settings.training(stage, variant.name).steps
    start, end = (7.0, 0.05 * variant.n) if stage == "prime" else (6.5, 2.2 + 0.2 * variant.n)
    if variant.recipe.objective == "rtd" and stage == "pretrain":
        start, end = 0.6, 0.3 + 0.02 * variant.n
    speed = 3 + SIZES.index(variant.size) + random.random()

    def loss(step):
        return end + (start - end) * math.exp(-speed * step / steps) * random.uniform(0.93, 1.07)

    every = steps // 20
    content = {
        "stage": stage,
        "model": variant.name,
        "positions_per_step": 8 * 32 if stage == "prime" else 32 * 32,
        "log": [{"step": s, "loss": loss(s)} for s in range(every, steps + 1, every)],
        "validation_log": [{"step": steps * i // 8, "loss": loss(steps * i / 8)} for i in range(9)],
    }
    write(run_file(settings, stage, variant.name), content)


def pruned_cells(settings):
    """(model, variant, task, seed) of all that CoFi prunes."""
    made = ((name, v) for name, v in settings.variants.items() if v.sparsity and not v.precision)
    for (name, v), task, seed in product(made, settings.pruned_tasks, settings.training_seeds):
        if v.pruner == "cofi":
            yield name, v, task, seed


def write_pruning(settings, variant, task, seed, random):
    asked = [{"step": s, "asked": min(1, s / 150) * variant.sparsity} for s in range(15, 301, 15)]
    log = [{"step": s, "loss": 0.3 + random.random() / s} for s in range(15, 301, 15)]
    masks = [
        entry | {"loss": random.random(), "expected": entry["asked"] * random.uniform(0.8, 1)}
        for entry in asked
    ]
    path = Path(lineage.cell(settings, variant.name, task, seed)).with_name("run.json")
    write(path, {"pruning_log": masks, "log": log})


def run_file(settings, stage, model) -> Path:
    return Path(lineage.checkpoint(settings, stage, model)).with_name("run.json")


def drawn(tmp_path_factory, name, changes, **world):
    settings = settings_for(tmp_path_factory.mktemp(name), **changes)
    fabricate(settings, **world)
    for figure in FIGURES:
        figures.draw(figure, settings)
    return settings


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Every size, N and family of the paper: 40 variants, eight pruned; 12 of them in int8 too."""
    settings = drawn(tmp_path_factory, "full", FULL)
    assert len(settings.variants) == 40 + 8 + 12
    return settings


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """The same where nothing is learnt, in few layers and a single training."""
    world = {"level": crowded, "depths": FEW_LAYERS}
    return drawn(tmp_path_factory, "crowd", FULL | {"training_seeds": [1]}, **world)


@pytest.fixture(scope="module")
def base_only(tmp_path_factory):
    changes = {"families": ["bert", "mux-bert"], "instances": [1, 2], "tasks": ["qqp", "ner"]}
    changes["pruned"] = PRUNED
    return drawn(tmp_path_factory, "base", {"sizes": ["base"], **changes})


@pytest.fixture(scope="module", params=list(product(WORLDS, FIGURES)), ids="-".join)
def picture(request):
    """(name, figure): each in each world, as it is before it is written."""
    which, name = request.param
    settings = request.getfixturevalue(which)
    with style.styled():
        figure, _ = figures.DRAWERS[name](Sources(name, experiments.FIGURES[name], settings))
        figure.draw_without_rendering()
        yield name, figure


def table(settings, name) -> pd.DataFrame:
    return pd.read_csv(settings.paths.figure(name, "csv"))


# --- The data ------------------------------------------------------------------------------------


def brute_force(points) -> tuple[list[bool], list[float]]:
    """`points`: (throughput, score). Whether nothing dominates each, and what it lacks."""
    free, lacking = [], []
    for speed, score in points:
        dominated, best = False, score
        for other_speed, other_score in points:
            if other_speed >= speed:
                best = max(best, other_score)
                if other_score >= score and (other_speed, other_score) != (speed, score):
                    dominated = True
        free.append(not dominated)
        lacking.append(best - score)
    return free, lacking


def test_the_frontier_of_pruning_is_each_tasks_own(full):
    found = table(full, "frontier").query("source == 'measured'")
    wanted = [v.name for v in experiments.FIGURES["frontier"].variants(full.axes)]
    assert set(found["task"]) == {"qqp", "sst2", "ner"}
    for task, rows in found.groupby("task"):
        assert sorted(rows["model"]) == sorted(wanted)
        points = list(zip(rows["speedup"], rows["score"], strict=True))
        free, lacking = brute_force(points)
        assert list(rows["on_frontier"]) == free
        assert list(rows["below_frontier"]) == pytest.approx(lacking, abs=2e-4)
        name = "mux-bert-base-n2-cofi0.6"
        row = rows.set_index("model").loc[name]
        runs = read(full.paths.scores(name, task))["scores"]
        level = sum(run["metrics"][tasks.TASKS[task].metric] for run in runs) / len(runs)
        assert row["score"] == pytest.approx(100 * level, abs=1e-3)
        timed = read(full.paths.throughput("pruned"))["models"][name]["speedup"]
        assert row["speedup"] == pytest.approx(timed["median"], rel=1e-4)
        assert (row["sparsity"], row["by"], row["N"]) == (0.6, "cofi", 2)
        assert row["precision"] == "bf16"  # the timing's own
        of_int8 = rows[rows["precision"] == "int8"]["model"]
        assert len(of_int8) == len(rows) / 2 and all(of_int8.str.endswith("-int8"))


def test_the_frontier_has_the_papers_points_of_table_2(full):
    """Numbers copied by hand."""
    theirs = table(full, "frontier").query("source == 'paper'").set_index(["task", "model"])
    assert set(theirs.index.get_level_values("task")) == {"qqp", "sst2"}  # it has no NER
    found = theirs.loc[("qqp", "mux-bert-base-n2-cofi0.6")]
    assert (found["score"], found["speedup"], found["N"], found["by"]) == (90.4, 4.0, 2, "cofi")
    found = theirs.loc[("sst2", "mux-bert-base-n5")]
    assert (found["score"], found["speedup"], found["by"]) == (86.9, 4.9, "not pruned")
    assert ("qqp", "bert-base-cofi0.7") not in theirs.index  # a dash there
    assert theirs.loc[("sst2", "bert-base-cofi0.7"), "score"] == 93.0


def test_the_papers_row_has_its_name_where_the_first_task_is_not_the_papers(tmp_path):
    changes = {"tasks": ["mnli", "sst2"], "pruned": PRUNED | {"tasks": ["mnli", "sst2"]}}
    settings = settings_for(tmp_path, sizes=["base"], **changes)
    fabricate(settings)
    with style.styled():
        figure, data = figures.DRAWERS["frontier"](
            Sources("frontier", experiments.FIGURES["frontier"], settings)
        )
    assert set(data.loc[data["source"] == "paper", "task"]) == {"sst2"}
    assert [axes.get_ylabel()[:5] for axes in shown(figure)].count("The p") == 1


def test_a_precision_that_auto_came_to_is_shown_once(tmp_path):
    changes = {"tasks": ["qqp"], "pruned": PRUNED | {"precisions": ["fp32", "int8"]}}
    settings = settings_for(tmp_path, sizes=["base"], precision="auto", **changes)
    fabricate(settings)
    figures.draw("frontier", settings)
    found = table(settings, "frontier").query("source == 'measured'")
    assert list(dict.fromkeys(found["precision"])) == ["bf16", "fp32", "int8"]
    path = settings.paths.throughput("pruned")
    write(path, read(path) | {"precision": "fp32"})
    figures.draw("frontier", settings)
    found = table(settings, "frontier").query("source == 'measured'")
    assert list(dict.fromkeys(found["precision"])) == ["fp32", "int8"]
    assert found["model"].is_unique


@pytest.mark.parametrize("seed", range(20))
def test_the_frontier_is_the_one_found_by_brute_force(seed):
    random = Random(seed)  # few values, so that ties and twins occur
    points = [(random.randint(1, 6), random.randint(1, 6)) for _ in range(12)]
    found = standing(*np.array(points, dtype=float).T)
    free, lacking = brute_force(points)
    assert found["on_frontier"].tolist() == free
    assert found["below_frontier"].tolist() == lacking


@pytest.mark.parametrize(
    ("name", "names"), [("pareto_glue", tasks.GLUE_AVERAGED), ("pareto_token", tasks.TOKEN)]
)
def test_pareto_data(full, name, names):
    found = table(full, name).query("source == 'measured'").set_index("model")
    wanted = experiments.FIGURES[name].variants(full.axes)
    assert len(wanted) == len(found) == 12
    speeds = read(full.paths.throughput("sizes"))["models"]
    points = []
    for variant in wanted:
        values = []
        for task in names:
            for run in read(full.paths.scores(variant.name, task))["scores"]:
                values.append(100 * run["metrics"][tasks.TASKS[task].metric])
        row = found.loc[variant.name]
        rates = sorted(speeds[variant.name]["instances_per_second"])
        rounds = sorted(speeds[variant.name]["speedup"]["rounds"])
        for x, (low, _, middle, _, high) in (("throughput", rates), ("speedup", rounds)):
            bounds = [row[x], row[f"{x}_low"], row[f"{x}_high"]]
            assert bounds == pytest.approx([middle, low, high], rel=1e-5)
        points.append((rounds[2], sum(values) / len(values)))
        assert row["score"] == pytest.approx(points[-1][1], rel=1e-5)
        assert (row["size"], row["N"]) == (variant.size, variant.n)
    free, lacking = brute_force(points)
    of_model = [variant.name for variant in wanted]
    assert found.loc[of_model, "on_frontier"].tolist() == free
    assert found.loc[of_model, "below_frontier"].tolist() == pytest.approx(lacking, abs=1e-3)


def test_the_majority_class_is_drawn_where_points_reach_down_to_it(full, crowd):
    """50 in these worlds: `full` stays above it, `crowd` lies around it."""
    for settings, reached in ((full, False), (crowd, True)):
        with style.styled():
            figure, data = figures.DRAWERS["pareto_glue"](
                Sources("pareto_glue", experiments.FIGURES["pareto_glue"], settings)
            )
        ours, papers = shown(figure)
        dotted = [line for line in ours.get_lines() if line.get_linestyle() == ":"]
        assert [list(line.get_ydata()) for line in dotted] == [[50, 50]] * reached
        assert not any(line.get_linestyle() == ":" for line in papers.get_lines())
        assert set(data["majority"].dropna()) == {50}
        named = [text.get_text() for text in figure.legends[0].get_texts()]
        assert ("Majority class" in named) == reached


def test_the_papers_points_beside_ours(full):
    rows = table(full, "pareto_token").query("source == 'paper'").set_index("model")
    assert set(rows.index) == {  # those that Table 1 or Table 3 has a speed-up for
        *("bert-small", "bert-base", "bert-large"),
        *("mux-bert-small-n2", "mux-bert-base-n2", "mux-bert-large-n2"),
        *("mux-bert-base-n5", "mux-bert-base-n10"),
    }
    assert tuple(rows.loc["mux-bert-base-n2", ["speedup", "score", "bar"]]) == (2.0, 95.2, 0.1)
    free, _ = brute_force(list(zip(rows["speedup"], rows["score"], strict=True)))
    assert rows["on_frontier"].tolist() == free


@pytest.mark.parametrize("which", ["full", "crowd"])
def test_an_error_bar_is_the_spread_of_the_number_that_is_drawn(which, request):
    """Over training seeds, of the average over tasks; of a single training, over composition."""
    settings = request.getfixturevalue(which)
    found = table(settings, "pareto_glue").query("source == 'measured'").set_index("model")
    for model in ("bert-small", "mux-bert-base-n10"):
        runs = {
            (run["training_seed"], run["composition_seed"], task): 100 * run["metrics"][metric]
            for task in tasks.GLUE_AVERAGED
            for metric in [tasks.TASKS[task].metric]
            for run in read(settings.paths.scores(model, task))["scores"]
        }
        averages = [
            [mean(runs[t, c, task] for task in tasks.GLUE_AVERAGED) for c in (1, 2)]
            for t in settings.training_seeds
        ]
        wanted = stdev(map(mean, averages)) if len(averages) > 1 else pstdev(averages[0])
        assert found.loc[model, "bar"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("quantity", ["activations", "entropy"])
def test_muxology_data(full, quantity):
    found = table(full, f"muxology_{quantity}")
    wanted = experiments.FIGURES[f"muxology_{quantity}"].variants(full.axes)
    assert set(found["model"]) == {variant.name for variant in wanted}
    for model, rows in found.groupby("model"):
        values = read(full.paths.muxology(model))[quantity]
        assert rows["layer"].tolist() == list(range(1, len(values) + 1))
        assert rows[quantity].tolist() == pytest.approx(values, rel=1e-5)


def test_training_curves_are_the_logs(full):
    found = table(full, "training_curves").set_index(["model", "stage", "kind"]).sort_index()
    trainings = [(v.name, stage) for v in full.variants.values() for stage in v.stages]
    assert len(found.index.unique()) == 2 * len(trainings)
    for model, stage in trainings:
        run = read(run_file(full, stage, model))
        for kind, log in (("training", run["log"]), ("validation", run["validation_log"])):
            rows = found.loc[(model, stage, kind)]
            assert rows["step"].tolist() == [entry["step"] for entry in log]
            assert rows["loss"].tolist() == pytest.approx([e["loss"] for e in log], rel=1e-5)
            positions = [entry["step"] * run["positions_per_step"] for entry in log]
            assert rows["positions"].tolist() == positions
    for model, rows in found.fillna({"ablation": ""}).groupby("model"):
        (ablation,), (rate,) = set(rows["ablation"]), set(rows["retrieval_rate"])
        assert ablation == next((x for x in ("prefix", "contextual") if x in model), "")
        assert rate == full.variants[model].retrieval_rate
    assert {0, 0.1, 0.2, 0.5} == set(found["retrieval_rate"])


def test_pruning_curves_are_the_logs_of_every_cell(full):
    found = table(full, "pruning_curves")
    cells = [(name, task, seed) for name, _, task, seed in pruned_cells(full)]
    of_cells = found.groupby(["model", "task", "training_seed"])
    assert sorted(of_cells.groups) == sorted(cells) and len(cells) == 2 * 2 * 3 * 3
    for (model, task, seed), rows in of_cells:
        run = read(Path(lineage.cell(full, model, task, seed)).with_name("run.json"))
        masks = rows[rows["training"] == "masks"]
        assert masks["expected"].tolist() == pytest.approx(
            [entry["expected"] for entry in run["pruning_log"]], rel=1e-5
        )
        assert masks["asked"].max() == pytest.approx(float(model[-3:]))
        tuned = rows[rows["training"] == "fine-tuning"]
        assert tuned["loss"].tolist() == pytest.approx([e["loss"] for e in run["log"]], rel=1e-5)


def test_a_pruning_curve_is_the_mean_over_training_seeds(full):
    data = table(full, "pruning_curves")
    with style.styled():
        figure, _ = figures.DRAWERS["pruning_curves"](
            Sources("pruning_curves", experiments.FIGURES["pruning_curves"], full)
        )
    for axis, task in zip(shown(figure)[:3], dict.fromkeys(data["task"]), strict=True):
        part = data[(data["task"] == task) & (data["training"] == "masks")]
        wanted = [
            [
                curve.loc[curve["step"] == step, "expected"].mean()
                for step in sorted(set(part["step"]))
            ]
            for _, curve in part.groupby(["N", "target"])
        ]
        drawn = [line.get_ydata().tolist() for line in axis.get_lines()][1::2]
        assert np.allclose(drawn, wanted, rtol=1e-4)


def test_ensemble_data(full):
    found = table(full, "ensemble_tradeoff").set_index(["task", "model", "copies"])
    speeds = read(full.paths.throughput("base"))["models"]
    wanted = experiments.FIGURES["ensemble_tradeoff"].variants(full.axes)
    assert len(found) == 2 * sum(variant.n for variant in wanted)
    for (task, model, copies), row in found.iterrows():
        values = [
            100 * run["metrics"]["accuracy"]
            for run in read(full.paths.ensembles(model, task))["runs"]
            if run["copies"] == copies
        ]
        assert row["score"] == pytest.approx(sum(values) / len(values), rel=1e-5)
        rate = sorted(speeds[model]["instances_per_second"])[2]
        assert row["throughput"] == pytest.approx(rate / copies, rel=1e-5)


# --- The pictures --------------------------------------------------------------------------------


def pictures(settings, name):
    return [Path(settings.paths.figure(name, suffix)).read_bytes() for suffix in ("pdf", "png")]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("which", WORLDS)
def test_both_files_have_the_width_of_a_page_or_of_a_column(which, name, request):
    pdf, png = pictures(request.getfixturevalue(which), name)
    width, height = struct.unpack(">II", png[16:24])
    left, bottom, right, top = (
        float(x) for x in re.search(rb"/MediaBox \[ (.*?) \]", pdf).group(1).split()
    )
    assert (left, bottom) == (0, 0)
    assert width / style.DPI == pytest.approx(right / 72, abs=0.01)
    assert height / style.DPI == pytest.approx(top / 72, abs=0.01)
    assert right / 72 in (pytest.approx(3.3), pytest.approx(6.8))


@pytest.mark.parametrize("name", FIGURES)
def test_every_n_is_drawn_in_its_colour(full, name):
    picture = np.round(255 * imread(full.paths.figure(name, "png"))[..., :3]).astype(int)
    seen = set(np.unique(picture @ [1 << 16, 1 << 8, 1]))
    for n in set(table(full, name)["N"]):
        assert int(style.looks([n])[n]["color"][1:], 16) in seen, n


def shown(figure):
    """The panels that show anything."""
    return [axes for axes in figure.axes if axes.axison]


def legend_of(figure):
    """It stands below the panels or in a cell that has none."""
    hidden = [axes.get_legend() for axes in figure.axes if not axes.axison]
    (legend,) = [*figure.legends, *filter(None, hidden)]
    return legend


def texts_of(figure):
    """Every text that is drawn."""
    legend = legend_of(figure)
    found = [*legend.get_texts(), legend.get_title()]
    for axes in shown(figure):
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis, bounds in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            ticks = axis.get_major_ticks()
            found += [tick.label1 for tick in ticks if bounds[0] <= tick.get_loc() <= bounds[1]]
    return [text for text in found if text.get_visible() and text.get_text()]


def markers_of(axes):
    """(x0, y0, x1, y1) of every marker, in pixels."""
    for line in axes.get_lines():
        if line.get_marker() not in ("", "None", "_", "|"):  # those are the caps of bars
            half = line.get_markersize() * axes.figure.dpi / 72 / 2
            for x, y in axes.transData.transform(line.get_xydata()):
                yield x - half, y - half, x + half, y + half


def meet(one, other) -> bool:
    """Whether two boxes (x0, y0, x1, y1) share more than an edge of half a pixel."""
    return all(min(one[i + 2], other[i + 2]) - max(one[i], other[i]) > 0.5 for i in (0, 1))


def test_no_text_sticks_out_of_the_picture(picture):
    _, figure = picture
    inside = figure.bbox
    box = legend_of(figure).get_window_extent()
    for x0, y0, x1, y1 in [box.extents, *(axes.get_tightbbox().extents for axes in shown(figure))]:
        assert inside.x0 <= x0 and x1 <= inside.x1
        assert inside.y0 <= y0 and y1 <= inside.y1
    assert all(not box.overlaps(axes.get_tightbbox()) for axes in shown(figure))


def test_no_text_covers_another_or_a_marker(picture):
    name, figure = picture
    boxes = [(text.get_text(), text.get_window_extent().extents) for text in texts_of(figure)]
    assert [(a, b) for (a, one), (b, two) in combinations(boxes, 2) if meet(one, two)] == []
    labels = 0
    for axes in shown(figure):
        markers = list(markers_of(axes))
        assert markers
        for text in axes.texts:
            labels += 1
            box = text.get_window_extent().extents
            assert not any(meet(box, marker) for marker in markers), (name, text.get_text())
            assert all(axes.bbox.contains(*corner) for corner in box.reshape(2, 2))
    assert bool(labels) == name.startswith(("pareto", "ensemble"))


def test_a_cell_without_a_panel_has_the_legend(picture):
    _, figure = picture
    assert all(axes.has_data() for axes in shown(figure))
    empty = [axes for axes in figure.axes if not axes.axison]
    assert not empty or empty[0].get_legend()


def test_panels_share_their_scales(picture):
    name, figure = picture
    if name.startswith("pareto"):
        assert len({axes.get_xlim() for axes in shown(figure)}) == 1
        assert len({axes.get_xlabel() for axes in shown(figure)}) == 1
    if name.startswith(("pareto", "muxology")):
        assert len({axes.get_ylim() for axes in shown(figure)}) == 1
    if name.startswith("muxology"):
        layer = [axes.bbox.width / np.ptp(axes.get_xlim()) for axes in shown(figure)]
        assert layer == pytest.approx([layer[0]] * len(layer), rel=0.03)
    if name == "training_curves":
        by_objective = {}
        for axes in shown(figure):
            limits = (axes.get_xlim(), axes.get_ylim())
            by_objective.setdefault(axes.get_title().split(": ")[1], set()).add(limits)
        assert all(len(limits) == 1 for limits in by_objective.values())


def test_every_axis_has_a_name(picture):
    """Its own, or that of the panel beside it or below it."""
    _, figure = picture
    for axes in shown(figure):
        place = axes.get_subplotspec()
        below = [a for a in shown(figure) if a.get_subplotspec().colspan == place.colspan]
        row = [a for a in shown(figure) if a.get_subplotspec().rowspan == place.rowspan]
        assert any(a.get_xlabel() for a in below) and any(a.get_ylabel() for a in row)


def test_a_weighted_loss_is_not_drawn(full):
    """Beside a masked-LM loss it would look better than it is."""
    data = table(full, "training_curves")
    with style.styled():
        figure, _ = figures.DRAWERS["training_curves"](
            Sources("training_curves", experiments.FIGURES["training_curves"], full)
        )
    lines = [line.get_ydata() for axes in shown(figure) for line in axes.get_lines()]
    pretraining = data[data["stage"] == "pretrain"]  # primings are shared
    for (_, kind), curve in pretraining.groupby(["model", "kind"]):
        drawn = any(len(y) == len(curve) and np.allclose(y, curve["loss"]) for y in lines)
        weighted, ablation = curve["retrieval_rate"].iloc[0], curve["ablation"].notna().any()
        assert drawn == (not weighted and (kind == "validation" or not ablation))


def test_the_papers_points_are_hollow(full):
    with style.styled():
        figure, _ = figures.DRAWERS["pareto_glue"](
            Sources("pareto_glue", experiments.FIGURES["pareto_glue"], full)
        )
    ours, papers = (
        {line.get_markerfacecolor() for line in axes.get_lines() if line.get_marker() in "os^D"}
        for axes in shown(figure)
    )
    assert papers == {"white"} and "white" not in ours


def test_the_papers_n_differ_in_grey():
    """By at least a tenth of the way from black to white, the last still far from white."""
    rgb = np.array([to_rgb(style.looks([n])[n]["color"]) for n in (1, 2, 5, 10)])
    grey = rgb @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(grey) > 0.1) and grey[-1] < 0.7
    assert len({style.looks([n])[n]["marker"] for n in (1, 2, 5, 10)}) == 4


def test_a_second_process_gives_the_same_bytes(full, tmp_path):
    names = ("pareto_glue", "training_curves")
    before = [pictures(full, name) for name in names]
    code = (
        "import sys; from muxplm import config; from muxplm.reporting import figures\n"
        "settings = config.load([sys.argv[1]])\n"
        f"[figures.draw(name, settings) for name in {names}]\n"
        "sys.exit('torch' in sys.modules)"
    )
    write(tmp_path / "config.json", {"results": full.results, **FULL})
    # Another order of sets and of whatever else hashes decide.
    environment = os.environ | {"PYTHONPATH": "src", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code, str(tmp_path / "config.json")]
    subprocess.run(command, env=environment, cwd=ROOT, check=True)
    assert [pictures(full, name) for name in names] == before


# --- Configs that select less, and mistakes ------------------------------------------------------


def test_only_base_and_few_n(base_only):
    assert set(table(base_only, "pareto_token")["model"]) == {"bert-base", "mux-bert-base-n2"}
    assert set(table(base_only, "muxology_entropy")["N"]) == {1, 2}
    assert set(table(base_only, "ensemble_tradeoff")["task"]) == {"qqp"}
    curves = table(base_only, "training_curves")
    assert set(curves["objective"]) == {"retrieval", "mlm"}


def test_an_n_that_the_paper_lacks_and_an_extension(tmp_path):
    changes = {"families": ["mux-bert", "mux-modernbert"], "instances": [3], "tasks": ["mnli"]}
    settings = settings_for(tmp_path, sizes=["base"], **changes)
    fabricate(settings)
    for name in ("pareto_glue", "training_curves", "ensemble_tradeoff"):
        figures.draw(name, settings)
    assert set(table(settings, "pareto_glue")["source"]) == {"measured"}
    assert "mux-modernbert-base-n3" in set(table(settings, "training_curves")["model"])


def test_mistakes_are_named(tmp_path):
    settings = settings_for(tmp_path, sizes=["base"], pruned=PRUNED)
    with pytest.raises(ValueError, match="did you mean 'pareto_glue'"):
        figures.draw("pareto_glu", settings)
    for name in FIGURES:
        with pytest.raises(DataError, match=r"is missing.*snakemake --cores all .*configfile"):
            figures.draw(name, settings)
    # run.json is no target of the DAG: what lies beside it is.
    with pytest.raises(DataError, match=r"run.json is missing: .*all .*/done.json"):
        figures.draw("training_curves", settings)
    fabricate(settings)
    path = run_file(settings, "pretrain", "bert-base")
    write(path, {k: v for k, v in read(path).items() if k != "validation_log"})
    with pytest.raises(DataError, match=f"{path} has no validation_log: delete"):
        figures.draw("training_curves", settings)


def test_a_figure_of_nothing_is_refused_and_no_target_of_all(tmp_path):
    electra = settings_for(tmp_path, families=["electra"])
    with pytest.raises(DataError, match="families, sizes and instances must list some of bert"):
        figures.draw("pareto_glue", electra)
    with pytest.raises(DataError, match=r"nothing to show .*: set pruned.sparsities"):
        figures.draw("frontier", settings_for(tmp_path))
    only_fisher = settings_for(tmp_path, pruned=PRUNED | {"by": ["fisher"]})
    with pytest.raises(DataError, match=r"pruning_curves has nothing to show .*pruned.by"):
        figures.draw("pruning_curves", only_fisher)
    glue = settings_for(tmp_path, tasks=["rte"])
    with pytest.raises(DataError, match="tasks must list some of ner, pos"):
        figures.draw("pareto_token", glue)
    shown = {name for name, target in experiments.FIGURES.items() if target.is_selected(glue.axes)}
    assert shown == set(FIGURES) - {
        *("pareto_token", "ensemble_tradeoff", "frontier", "pruning_curves")
    }
    shown = {name for name in FIGURES if experiments.FIGURES[name].is_selected(electra.axes)}
    assert shown == {"training_curves"}


@pytest.mark.parametrize("name", FIGURES)
def test_captions_say_what_is_left_out(name, base_only):
    caption = captions.figure(name, base_only)
    assert "small scale" in caption and "Left out by this preset: " in caption
    assert set(captions.FIGURES) == set(FIGURES) == set(figures.DRAWERS)


def test_the_drawing_of_the_method_is_the_documentations(tmp_path):
    """To the pixel and the path, as the line at the head of its module makes it."""
    drawn = [tmp_path / f"method.{suffix}" for suffix in method.SUFFIXES]
    for path in drawn:
        method.draw(path)
        assert path.read_bytes() == (ROOT / "docs" / path.name).read_bytes()
    with pytest.raises(DataError, match=r"method.jpeg: the picture's name has to end in"):
        method.draw(tmp_path / "method.jpeg")
