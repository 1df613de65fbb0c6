"""Several processes for one training, through the rules: the same weights as of one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from muxplm import config as configuration

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[1]
TRAINING = {"rows": 4, "steps": 4, "adam_epsilon": 1.0e-4, "save_every": 3}
# Adam divides by the root of a mean square: a small epsilon would turn rounding into steps.
CHANGES = {
    "families": ["bert", "mux-bert"],
    "sizes": ["base", "large"],
    "instances": [1, 5],
    "tasks": ["sst2"],
    "shapes": {size: {"layers": 1, "hidden": 32, "heads": 2} for size in ("base", "large")},
    "prime": TRAINING,
    "pretrain": TRAINING,
    "finetune": TRAINING | {"steps": {"sst2": 4}},
    # The large ones accumulate: half as many rows in each of two passes.
    "overrides": {
        name: {
            stage: {"accumulation": 2, "rows": 2}
            for stage in (*(["prime"] if "n5" in name else []), "pretrain", "finetune")
        }
        for name in ("bert-large", "mux-bert-large-n5")
    },
}
MODELS = ("bert-base", "bert-large", "mux-bert-base-n5", "mux-bert-large-n5")


def weights(folder: Path, processes: int) -> dict:
    """By (stage, model) what Snakemake trains with so many processes a training."""
    resources = {stage: {"processes": processes} for stage in ("prime", "pretrain", "finetune")}
    places = {"results": str(folder / "results"), "scratch": str(folder / "scratch")}
    (folder / "change.yaml").write_text(yaml.safe_dump(CHANGES | places | {"resources": resources}))
    files = ["config/smoke.yaml", str(folder / "change.yaml")]
    paths = configuration.load(ROOT / file for file in files).paths
    wanted = {("pretrain", model): paths.checkpoint("pretrain", model) for model in MODELS}
    wanted |= {("finetune", model): paths.finetuned(model, "sst2", 1) for model in MODELS}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock"]
    done = subprocess.run(
        [*command, "--configfile", *files, "--", *wanted.values()],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = Path(paths.log("pretrain/bert-base")).read_text()
    assert log.count("step 4/4, loss") == 1  # one process speaks
    return {
        cell: load_file(Path(path).with_name("model.safetensors")) for cell, path in wanted.items()
    }


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("of1"), 1)


def test_two_processes_train_to_the_weights_of_one(one, tmp_path_factory):
    two = weights(tmp_path_factory.mktemp("of2"), 2)
    for cell, tensors in one.items():
        for name, tensor in tensors.items():
            message = f"{cell} {name}"
            torch.testing.assert_close(two[cell][name], tensor, rtol=0, atol=1e-6, msg=message)


def test_accumulated_passes_train_to_the_weights_of_one(one):
    """Of the same global batch: the large models here have the base ones' shape and seed."""
    for stage in ("pretrain", "finetune"):
        for base, large in ((MODELS[0], MODELS[1]), (MODELS[2], MODELS[3])):
            for name, tensor in one[stage, base].items():
                other = one[stage, large][name]
                torch.testing.assert_close(other, tensor, rtol=0, atol=1e-6, msg=f"{large} {name}")
