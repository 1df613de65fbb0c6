"""What each stage hands to the training loop, and one stage whole, in one process and in two."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fabricated import settings_for
from safetensors.torch import load_file

from muxplm import recipes
from muxplm.data.collation import uniform
from muxplm.data.prepare import prepare_blocks, prepare_tokenizer, read_tokenizer
from muxplm.data.rows import prepare_task, read_task
from muxplm.experiments import Variant
from muxplm.files import check_manifest, read_json
from muxplm.model_config import model_config
from muxplm.models.build import load_model, new_model
from muxplm.training import stages

TASKS = ["sst2", "stsb", "pos"]
TRAINING = {"learning_rate": 0.01, "adam_epsilon": 1.0e-4, "rows": 4}
CHANGES = {
    "families": ["bert", "tmux", "mux-bert"],
    "sizes": ["base", "large"],
    "instances": [1, 2],
    "tasks": TASKS,
    "training_seeds": [1, 2],
    "max_length": 16,
    "data": {
        "synthetic": {
            "documents": 400,
            "train_rows": dict.fromkeys(TASKS, 40),
            "validation_rows": 20,
        }
    },
    "tokenizer": {"vocab_size": 400},
    "shapes": {
        size: {"layers": 1, "hidden": 16, "heads": 2, "intermediate": 32}
        for size in ("base", "large")
    },
    "prime": TRAINING | {"steps": 5, "steps_per_instance": 0},
    "pretrain": TRAINING | {"steps": 5, "mask_rate": 0.25},
    "finetune": TRAINING | {"steps": dict.fromkeys(TASKS, 3), "min_instances": 1},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Settings whose data is prepared."""
    folder = tmp_path_factory.mktemp("stages")
    settings = settings_for(folder / "results", scratch=str(folder / "scratch"), **CHANGES)
    prepare_tokenizer(settings)
    prepare_blocks(settings)
    for task in TASKS:
        prepare_task(task, "train", settings)
    return settings


@pytest.fixture
def trainings(monkeypatch):
    """What is handed to the loop, call by call; nothing is trained."""
    calls = []

    def train(model, dataset, collate, training, **rest):
        weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        call = {"dataset": dataset, "collate": collate, "training": training, "weights": weights}
        calls.append(SimpleNamespace(config=model.config, **call, **rest))
        return [], [], 1.5

    monkeypatch.setattr(stages, "train", train)
    monkeypatch.setattr(stages.trained, "adopt", lambda *_: False)
    monkeypatch.setattr(stages, "evaluate_blocks", lambda *_: {})
    return calls


def new_weights(one, other):
    """Names of the weights in which two models differ."""
    return {name for name, weight in one.items() if not torch.equal(weight, other[name])}


def test_pretraining_masks_as_the_config_says(settings, trainings):
    stages.pretrain(settings, "bert-base")
    (call,) = trainings
    rows = call.dataset[:50]
    labels = call.collate(rows, lambda width: uniform((1, 0), 0, 50, width))["labels"]
    assert ((labels != -100).sum(1) == 4).all()  # of 16
    assert (call.steps, call.instances, call.training.learning_rate) == (5, 1, 0.01)
    assert len(call.validation) == min(120, len(np.unique(call.validation, axis=0)))


@pytest.mark.parametrize(("name", "weight"), [("n2", 0.0), ("n2-retrieval0.5", 0.5)])
def test_pretraining_retrieves_at_the_variants_rate(name, weight, settings, trainings):
    name = f"mux-bert-large-{name}"
    stages.prime(settings, name)
    stages.pretrain(settings, name)
    primed, call = trainings
    assert call.config.retrieval_weight == weight
    assert call.instances == 2
    both = set(call.weights) & set(primed.weights)
    assert "lm_head.bias" in both  # the head is the primed one
    assert new_weights({n: call.weights[n] for n in both}, primed.weights) == set()


def test_priming_reads_every_token_back(settings, trainings):
    stages.prime(settings, "tmux-base-n2")
    (call,) = trainings
    batch = call.collate(call.dataset[:4], None)
    assert torch.equal(batch["input_ids"], batch["labels"])


def test_a_pretraining_seed_draws_other_weights_and_rows_of_the_same_model(settings, trainings):
    more = CHANGES | {"pretraining_seeds": [1, 7]}
    seeds = settings_for(settings.results, scratch=settings.scratch, **more)
    for name in ("bert-base", "bert-base-pretraining7"):
        stages.pretrain(seeds, name)
    first, second = trainings
    assert (first.seed, second.seed) == (1, 7)
    assert "bert.embeddings.word_embeddings.weight" in new_weights(first.weights, second.weights)
    assert np.array_equal(first.validation, second.validation)  # one curve beside the other
    usual, own = (recipes.pretrain(s, "bert-base") for s in (settings, seeds))
    assert usual == own  # models without the seed stay as they are
    assert recipes.pretrain(seeds, "bert-base-pretraining7") == own | {"seed": 7}


@pytest.fixture
def primed(settings, trainings):
    stages.prime(settings, "tmux-base-n2")
    stages.pretrain(settings, "bert-base")
    trainings.clear()
    return trainings


@pytest.mark.parametrize(("name", "weight"), [("tmux-base-n2", 0.1), ("bert-base", None)])
def test_finetuning_draws_by_its_seed_and_retrieves(name, weight, settings, primed):
    stages.finetune(settings, name, ["sst2"], [1, 2])
    first, second = primed
    assert (first.seed, second.seed) == (1, 2)
    head = {n for n in first.weights if n.startswith(("classifier.w", "bert.pooler.dense.w"))}
    assert new_weights(first.weights, second.weights) == head  # biases start at 0
    assert getattr(first.config, "retrieval_weight", None) == weight
    assert first.config.problem_type == "single_label_classification"
    run = read_json(Path(settings.paths.finetuned(name, "sst2", 2)).with_name("run.json"))
    assert (run["training_seed"], run["seconds"]) == (2, 1.5)


@pytest.mark.parametrize("name", ["tmux-base-n2", "bert-base"])
def test_regression_starts_from_the_mean_label(name, settings, primed):
    stages.finetune(settings, name, ["stsb"], [1])
    (call,) = primed
    mean = np.mean(read_task("stsb", "train", settings)["label"])
    assert call.weights["classifier.bias"].item() == pytest.approx(mean, rel=1e-6)
    assert mean > 1


def test_finetuning_whole(settings, trainings, monkeypatch, tmp_path):
    """Through the real loop: the weights that the next step loads are those that were trained."""
    monkeypatch.undo()
    monkeypatch.setattr(stages.trained, "adopt", lambda *_: False)
    own = settings.model_copy(update={"scratch": str(tmp_path)})
    stages.prime(own, "tmux-base-n2")
    stages.finetune(own, "tmux-base-n2", ["pos"], [1])
    before = load_model("retrieval", Path(own.paths.checkpoint("prime", "tmux-base-n2")).parent)
    after = load_model("tagging", Path(own.paths.finetuned("tmux-base-n2", "pos", 1)).parent)
    words = [m.get_input_embeddings().weight for m in (before, after)]
    assert (
        0 < (words[0] - words[1]).abs().max() < 3 * 0.01 + 1e-6
    )  # three steps of at most the rate
    run = read_json(Path(own.paths.finetuned("tmux-base-n2", "pos", 1)).with_name("run.json"))
    assert [entry["step"] for entry in run["log"]] == [3]
    assert list(tmp_path.rglob("*.safetensors")) == []


# --- The command in several processes -----------------------------------------------------------


def command(settings, folder, *arguments):
    """`muxplm ARGUMENTS --config ...` with results in `folder` and the data of `settings`."""
    results = folder / "results"
    results.mkdir(parents=True)
    (results / "data").symlink_to(Path(settings.results, "data"))
    raw = json.loads(settings.model_dump_json(exclude_none=True))
    changed = raw | {"results": str(results), "scratch": str(folder / "scratch")}
    (folder / "config.json").write_text(json.dumps(changed))
    parts = ["-m", "muxplm", *arguments, "--config", str(folder / "config.json")]
    return {"args": [sys.executable, *parts]}


def test_two_processes_of_the_command_prime_as_one(settings, tmp_path, monkeypatch):
    name = "mux-bert-base-n2"
    monkeypatch.setattr(stages.trained, "adopt", lambda *_: False)  # what other tests left
    started = command(settings, tmp_path, "prime", name, "--processes", "2")
    done = subprocess.run(**started, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("step 5/5, loss") == 1
    assert list(tmp_path.glob("scratch/*/*")) == []
    stages.prime(settings, name)
    two = tmp_path / "results/prime" / name
    one = Path(settings.paths.checkpoint("prime", name)).parent
    weights, expected = (load_file(folder / "model.safetensors") for folder in (two, one))
    for key, weight in expected.items():
        torch.testing.assert_close(weights[key], weight, rtol=0, atol=1e-6, msg=key)
    run, expected = (read_json(folder / "run.json") for folder in (two, one))
    assert (run["processes"], expected["processes"]) == (2, 1)
    assert run["validation"] == pytest.approx(expected["validation"], abs=1e-3)
    for found, entry in zip(run["log"], expected["log"], strict=True):
        assert found == pytest.approx(entry, abs=1e-5)


def test_rows_that_processes_cannot_share(settings, tmp_path):
    started = command(settings, tmp_path, "finetune", "bert-base", "--processes", "3")
    done = subprocess.run(**started, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "muxplm: rows: 4 is no multiple of the 3 processes\n"


def test_two_processes_stop_together(settings, tmp_path):
    """The command is asked to end; both processes end the step, and one writes the checkpoint."""
    long = settings.model_copy(update={"prime": settings.prime.model_copy(update={"steps": 9000})})
    started = command(long, tmp_path, "prime", "mux-bert-base-n2", "--processes", "2")
    with subprocess.Popen(**started, stdout=subprocess.PIPE, text=True) as running:
        next(line for line in running.stdout if "step 450/9000, loss" in line)
        running.terminate()
        said = running.stdout.read()
    assert running.returncode == 143
    (step,) = re.findall(r"stopped at step (\d+)", said)
    (checkpoint,) = tmp_path.glob("scratch/prime/*/*")
    assert checkpoint.name == f"checkpoint-{step}"
    check_manifest(checkpoint)


def test_a_prefix_trained_here_in_the_released_dialect_ends_as_the_authors_does(settings):
    """N ids and a second [CLS] on top of a task's text; a row of pre-training is cut by as many."""
    tokenizer, n = read_tokenizer(settings), 2
    variants = [Variant("tmux", n=n, dialect=dialect) for dialect in ("paper", "released")]
    paper, released = (model_config(settings, variant, tokenizer) for variant in variants)
    assert released.prefix_token_ids == [*paper.prefix_token_ids, tokenizer.cls_token_id]
    assert (paper.prefix_length, released.prefix_length) == (n, n + 1)
    for config in (paper, released):
        positions = config.encoder.max_position_embeddings
        assert positions == settings.max_length + config.prefix_length
    ids = torch.randint(5, len(tokenizer), (n, settings.max_length))
    assert new_model("classification", released)(ids).logits.shape == (n, 2)
