"""The stage `prune` whole: from fine-tuned cells to small models that are scored and timed; killed."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from fabricated import settings_for
from safetensors.torch import load_file
from test_stages import CHANGES, TASKS
from typer.testing import CliRunner

from muxplm import experiments, recipes, trained
from muxplm.cli import app
from muxplm.data.prepare import prepare_blocks, prepare_tokenizer
from muxplm.data.rows import prepare_task
from muxplm.evaluation.score import write_scores
from muxplm.evaluation.throughput import measure_throughput
from muxplm.files import read_json
from muxplm.models.build import load_model
from muxplm.precision import for_inference
from muxplm.provenance import runs_behind
from muxplm.pruning import stage
from muxplm.pruning.cofi import CoFi
from muxplm.settings import Settings
from muxplm.training import loop, stages

NAMES = ("bert-base", "mux-bert-base-n2")
TINY = {
    "families": ["bert", "mux-bert"],
    "sizes": ["base"],
    "training_seeds": [1],
    "composition_seeds": [1],
    "shapes": {"base": {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 32}},
    "pruned": {"sparsities": [0.5], "instances": [1, 2], "tasks": TASKS, "by": ["cofi", "fisher"]},
    "prune": {
        "steps": dict.fromkeys(TASKS, 6),
        "final_steps": dict.fromkeys(TASKS, 4),
        "rows": 4,
        "learning_rate": 1e-3,
        "adam_epsilon": 1e-4,
        "mask_learning_rate": 0.3,
        "fisher_passes": 3,
        "save_every": 2,
    },
    "throughput": {
        "batch": 8,
        "length": 16,
        "batches": 1,
        "trials": 2,
        "micro_batches": [4],
    },
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Every dense cell fine-tuned."""
    folder = tmp_path_factory.mktemp("prune")
    settings = settings_for(folder / "results", scratch=str(folder / "scratch"), **CHANGES | TINY)
    prepare_tokenizer(settings)
    prepare_blocks(settings)
    for task, split in product(TASKS, ("train", "validation")):
        prepare_task(task, split, settings)
    stages.prime(settings, NAMES[1])
    for name in NAMES:
        stages.pretrain(settings, name)
        stages.finetune(settings, name, TASKS, [1])
    return settings


def of(settings, name, task):
    return Path(settings.paths.finetuned(name, task, 1)).parent


@pytest.fixture(scope="module")
def pruned(settings):
    """By name: each dense variant by either method, on every kind of task."""
    names = [f"{name}-{by}0.5" for name in NAMES for by in ("cofi", "fisher")]
    for name in names:
        stage.prune(settings, name, TASKS, [1])
    return names


def test_every_kind_of_task_is_pruned_by_either_method(settings, pruned):
    for name, task in product(pruned, TASKS):
        run = read_json(of(settings, name, task) / "run.json")
        assert (run["stage"], run["model"], run["target"]) == ("prune", name, 0.5)
        model = load_model(stage.TASKS[task].kind, of(settings, name, task))
        config = getattr(model.config, "encoder", model.config)
        assert (config.heads, config.intermediates) == (run["heads"], run["intermediates"])
        layers = [p for k, p in model.named_parameters() if ".layer." in k and "LayerNorm" not in k]
        left = sum(p.numel() for p in layers) / (2 * (4 * 16 * 17 + 2 * 16 * 32 + 32 + 16))
        assert run["sparsity"] == pytest.approx(1 - left)
        assert run["sparsity"] == pytest.approx(0.5, abs=0.13)  # a head is an eighth
        if "cofi" in name:
            assert {"sparsity", "expected", "asked"} <= set(run["pruning_log"][-1])
            assert run["log"][-1]["step"] == 4
        (scratch,) = [p for p in Path(settings.scratch, "prune").glob("*")] or [None]
        assert scratch is None


def test_pruned_cells_are_scored_and_timed_as_they_were_saved(settings, pruned):
    for name in pruned:
        write_scores(settings, name, ["sst2"])
        content = read_json(settings.paths.scores(name, "sst2"))
        assert len(content["scores"]) == 1
    found = measure_throughput(settings, "pruned")["models"]
    assert set(found) == {*NAMES, *pruned}
    for name in pruned:
        assert set(found[name]["tasks"]) == set(TASKS)
        rates = [1 / rate for rate in found[name]["instances_per_second"]]
        each = [t["instances_per_second"] for t in found[name]["tasks"].values()]
        means = [sum(1 / rate for rate in of_round) / 3 for of_round in zip(*each, strict=True)]
        assert rates == pytest.approx(means)
    assert found["bert-base"]["speedup"]["median"] == 1.0 and "tasks" not in found["bert-base"]


def test_what_is_pruned_is_served_in_other_precisions_too(settings, pruned):
    """The same cells, scored and timed: int8's linear layers are torch's quantised ones."""
    changed = settings.model_dump()
    changed["pruned"] |= {"precisions": ["int8"]}
    changed["precision"] = "fp32"
    other = Settings.model_validate(changed)
    names = [f"{name}-int8" for name in (*NAMES, *pruned)]
    for name in names:
        write_scores(other, name, ["sst2"])
        content = read_json(other.paths.scores(name, "sst2"))
        assert (content["model"], content["precision"]) == (name, "int8")
    found = measure_throughput(other, "pruned")["models"]
    assert set(found) == {*NAMES, *pruned, *names}
    assert set(found[f"{pruned[0]}-int8"]["tasks"]) == set(TASKS)
    behind = {run.title for run in runs_behind(experiments.FIGURES["frontier"], other)}
    assert "score mux-bert-base-n2-int8 sst2" in behind
    assert "finetune mux-bert-base-n2-int8 sst2 seed 1" not in behind


def test_int8_is_near_float32_and_not_the_same(settings):
    """Weights and states of a linear layer are rounded to 8 bits: a product is off by a per cent."""
    model = load_model("classification", of(settings, "mux-bert-base-n2", "sst2")).eval()
    ids = torch.arange(5, 25).view(4, 5)
    with torch.inference_mode():
        exact, near = (
            for_inference(m, p)(ids).logits for m, p in ((model, "fp32"), (model, "int8"))
        )
    assert 0 < (exact - near).abs().max() < 0.05 * exact.abs().max()
    kinds = {type(m).__module__ for m in for_inference(model, "int8").modules()}
    assert any("quantized" in kind for kind in kinds)
    assert all(type(m) is not torch.nn.Linear for m in for_inference(model, "int8").modules())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", ["masks", "final"])
def test_a_killed_cell_goes_on_to_the_same_end(settings, pruned, at, tmp_path, monkeypatch):
    """In either half; masks that are there are not trained again."""
    name, task = pruned[2], "sst2"
    folder = of(settings, name, task)
    before = load_file(folder / "model.safetensors")
    again = settings.model_copy(update={"scratch": str(tmp_path)})
    record = read_json(folder / "run.json")
    (folder / "run.json").write_text(json.dumps(record | {"recipe": "other"}))
    steps, learning_rate = 6 if at == "masks" else 4, loop.learning_rate

    def killing(training, step, of_steps):
        if (step, of_steps) == (3, steps):
            raise Killed
        return learning_rate(training, step, of_steps)

    monkeypatch.setattr(loop, "learning_rate", killing)
    with pytest.raises(Killed):
        stage.prune(again, name, [task], [1])
    (scratch,) = (tmp_path / "prune").iterdir()
    assert (scratch / "small").exists() == (at == "final")
    monkeypatch.setattr(loop, "learning_rate", learning_rate)
    if at == "final":
        monkeypatch.setattr(CoFi, "forward", None)
    stage.prune(again, name, [task], [1])
    after = load_file(folder / "model.safetensors")
    assert all(torch.equal(weight, after[key]) for key, weight in before.items())
    now = read_json(folder / "run.json")
    for key in ("log", "pruning_log", "heads", "intermediates", "sparsity", "recipe", "sha256"):
        assert now[key] == record[key]
    assert not list((tmp_path / "prune").iterdir())


def test_the_command_makes_what_the_workflow_plans(settings, pruned, tmp_path):
    """The rule's own line; a recipe that the config does not give is refused."""
    (tmp_path / "run.json").write_text(settings.model_dump_json())
    recipe = recipes.of_job(settings, "prune", model=pruned[2], task=TASKS, seed=[1])
    arguments = ["prune", pruned[2], "--tasks", ",".join(TASKS), "--seeds", "1", "--processes", "1"]
    arguments += ["--config", str(tmp_path / "run.json"), "--recipe"]
    done = CliRunner().invoke(app, [*arguments, recipe])
    assert done.exit_code == 0 and done.output.count("0 of 1 to train") == len(TASKS)
    refused = CliRunner().invoke(app, [*arguments, "other"])
    assert "this job was planned for recipe other" in str(refused.exception)


def test_what_is_there_is_adopted(settings, pruned, monkeypatch, capsys):
    monkeypatch.setattr(stage, "train", None)
    stage.prune(settings, pruned[0], TASKS, [1])
    assert "0 of 1 to train" in capsys.readouterr().out
    path = settings.paths.finetuned(pruned[0], "sst2", 1)
    assert trained.adopt(path, recipes.prune(settings, pruned[0], "sst2", 1))


def test_the_provenance_of_a_table_of_pruned_models(settings, pruned):
    """The cells that are there, by the stage that made them, and what those were made from."""
    runs = {run.title: run for run in runs_behind(experiments.TABLES["pruning"], settings)}
    for name, task in product(pruned, TASKS):
        whole = settings.variants[name].parent.name
        order = [f"{stage} {task} seed 1" for stage in (f"finetune {whole}", f"prune {name}")]
        assert [runs[title].state for title in order] == ["current", "current"]
        assert list(runs).index(order[0]) < list(runs).index(order[1])
    assert "throughput pruned" in runs and "throughput base" not in runs
    assert not [title for title in runs if title.startswith("finetune") and "cofi" in title]
