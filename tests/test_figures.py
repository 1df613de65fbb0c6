"""Figures over fabricated results: their data against plain loops, their pictures against the page."""

import json
import math
import os
import re
import struct
import subprocess
import sys
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from fabricated import ROOT, over, settings_for, write
from matplotlib.image import imread

from muxplm import experiments, tasks
from muxplm.experiments import SIZES
from muxplm.files import DataError
from muxplm.reporting import captions, figures, style
from muxplm.reporting.cells import Sources
from muxplm.reporting.pareto import standing

FIGURES = list(experiments.FIGURES)
LAYERS = {"small": 4, "base": 12, "large": 24}
FULL = {"sizes": list(SIZES), "composition_seeds": [1, 2]}


def read(path):
    return json.loads(Path(path).read_text())


# --- Results with the shapes that real ones have ------------------------------------------------


def fabricate(settings):
    """Scores fall with N and rise with size; throughput is near N times; losses decay."""
    random = Random(0)
    for variant in settings.variants.values():
        write_scores(settings, variant, random)
        write_muxology(settings, variant, random)
        for stage in variant.stages:
            write_training(settings, variant, stage, random)
    for timed, target in experiments.TIMED.items():
        write_throughput(settings, timed, target.variants(settings.axes), random)


def level(variant) -> float:
    """A score in 0..1 without noise."""
    return 0.8 + 0.03 * SIZES.index(variant.size) - 0.06 * math.log(variant.n)


def seeds_of(settings):
    return product(settings.training_seeds, settings.composition_seeds)


def write_scores(settings, variant, random):
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
        rounds = [ratio * random.uniform(0.97, 1.03) for _ in range(5)]
        models[variant.name] = {
            "instances_per_second": [412 * r for r in rounds],
            "speedup": over(rounds),
            "best": {"micro_batch": 40, "instances_per_second": 500 * ratio, "speedup": ratio},
        }
    write(settings.paths.throughput(timed), {"reference": "bert-base", "models": models})


def write_muxology(settings, variant, random):
    count = LAYERS[variant.size]
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


def run_file(settings, stage, model) -> Path:
    return Path(settings.paths.checkpoint(stage, model)).with_name("run.json")


def drawn(tmp_path_factory, name, **changes):
    settings = settings_for(tmp_path_factory.mktemp(name), **changes)
    fabricate(settings)
    for figure in FIGURES:
        figures.draw(figure, settings)
    return settings


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Every size, N and family of the paper: 40 variants."""
    settings = drawn(tmp_path_factory, "full", **FULL)
    assert len(settings.variants) == 40
    return settings


@pytest.fixture(scope="module")
def base_only(tmp_path_factory):
    return drawn(
        tmp_path_factory,
        "base",
        sizes=["base"],
        families=["bert", "mux-bert"],
        instances=[1, 2],
        tasks=["qqp", "ner"],
    )


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
        rates = sorted(speeds[variant.name]["instances_per_second"])
        points.append((rates[2], sum(values) / len(values)))
        row = found.loc[variant.name]
        assert (row["throughput"], row["score"]) == pytest.approx(points[-1], rel=1e-5)
        assert (row["low"], row["high"]) == pytest.approx((rates[0], rates[-1]), rel=1e-5)
        assert (row["size"], row["N"]) == (variant.size, variant.n)
    free, lacking = brute_force(points)
    of_model = [variant.name for variant in wanted]
    assert found.loc[of_model, "on_frontier"].tolist() == free
    assert found.loc[of_model, "below_frontier"].tolist() == pytest.approx(lacking, abs=1e-3)


def test_the_papers_points_beside_ours(full):
    rows = table(full, "pareto_token").query("source == 'paper'").set_index("model")
    assert set(rows.index) == {  # those that Table 1 or Table 3 has a speed-up for
        *("bert-small", "bert-base", "bert-large"),
        *("mux-bert-small-n2", "mux-bert-base-n2", "mux-bert-large-n2"),
        *("mux-bert-base-n5", "mux-bert-base-n10"),
    }
    assert tuple(rows.loc["mux-bert-base-n2", ["speedup", "score"]]) == (2.0, 95.2)
    free, _ = brute_force(list(zip(rows["speedup"], rows["score"], strict=True)))
    assert rows["on_frontier"].tolist() == free


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
    ablations = {v.name for v in full.variants.values() if v.retrieval_rate}
    ablations |= {v.name for v in full.variants.values() if "prefix" in v.name}
    ablations |= {v.name for v in full.variants.values() if "contextual" in v.name}
    assert set(found[found["ablation"]].index.get_level_values("model")) == ablations
    assert len(ablations) == 3 * 3 + 2 * 3  # rates, and two strategies, at three N


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
@pytest.mark.parametrize("which", ["full", "base_only"])
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


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("which", ["full", "base_only"])
def test_no_text_sticks_out_of_the_picture(which, name, request):
    settings = request.getfixturevalue(which)
    with style.styled():
        figure, _ = figures.DRAWERS[name](Sources(name, experiments.FIGURES[name], settings))
        figure.draw_without_rendering()
        inside = figure.bbox
        for axes in figure.axes:
            if axes.axison:
                box = axes.get_tightbbox()
                assert inside.x0 <= box.x0 and box.x1 <= inside.x1
                assert inside.y0 <= box.y0 and box.y1 <= inside.y1
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1
        assert all(not box.overlaps(axes.get_tightbbox()) for axes in figure.axes if axes.axison)


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
    settings = settings_for(tmp_path, sizes=["base"])
    with pytest.raises(ValueError, match="did you mean 'pareto_glue'"):
        figures.draw("pareto_glu", settings)
    for name in FIGURES:
        with pytest.raises(DataError, match=r"is missing.*snakemake --cores all .*configfile"):
            figures.draw(name, settings)
    # run.json is no target of the DAG: the weights beside it are.
    with pytest.raises(DataError, match=r"run.json is missing: .*all .*/model.safetensors"):
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
    glue = settings_for(tmp_path, tasks=["rte"])
    with pytest.raises(DataError, match="tasks must list some of ner, pos"):
        figures.draw("pareto_token", glue)
    shown = {name for name, target in experiments.FIGURES.items() if target.is_selected(glue.axes)}
    assert shown == set(FIGURES) - {"pareto_token", "ensemble_tradeoff"}
    shown = {name for name in FIGURES if experiments.FIGURES[name].is_selected(electra.axes)}
    assert shown == {"training_curves"}


@pytest.mark.parametrize("name", FIGURES)
def test_captions_say_what_is_left_out(name, base_only):
    caption = captions.figure(name, base_only)
    assert "small scale" in caption and "Left out by this preset: " in caption
    assert set(captions.FIGURES) == set(FIGURES) == set(figures.DRAWERS)
