"""Several processes for one training, through the rules: the same weights as of one."""

import os
import shutil
import socket
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


def configured(folder: Path, **changes) -> list[str]:
    """The config's files for results in `folder`."""
    places = {"results": str(folder / "results"), "scratch": str(folder / "scratch")}
    (folder / "change.yaml").write_text(yaml.safe_dump(CHANGES | places | changes))
    return ["config/smoke.yaml", str(folder / "change.yaml")]


def weights(folder: Path, processes: int, models=MODELS) -> dict:
    """By (stage, model) what Snakemake trains with so many processes a training."""
    resources = {stage: {"processes": processes} for stage in ("prime", "pretrain", "finetune")}
    files = configured(folder, resources=resources)
    paths = configuration.load(ROOT / file for file in files).paths
    wanted = {("pretrain", model): paths.checkpoint("pretrain", model) for model in models}
    wanted |= {("finetune", model): paths.finetuned(model, "sst2", 1) for model in models}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock"]
    done = subprocess.run(
        [*command, "--configfile", *files, "--", *wanted.values()],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = Path(paths.log(f"pretrain/{models[0]}")).read_text()
    assert log.count("step 4/4, loss") == 1  # one process speaks
    return {
        cell: load_file(Path(path).with_name("model.safetensors")) for cell, path in wanted.items()
    }


@pytest.fixture(scope="module")
def folder_of_one(tmp_path_factory):
    return tmp_path_factory.mktemp("of1")


@pytest.fixture(scope="module")
def one(folder_of_one):
    return weights(folder_of_one, 1)


def test_two_processes_train_to_the_weights_of_one(one, tmp_path_factory):
    """A plain model, and a multiplexed one that accumulates."""
    two = weights(tmp_path_factory.mktemp("of2"), 2, (MODELS[0], MODELS[3]))
    for cell, tensors in two.items():
        for name, tensor in tensors.items():
            message = f"{cell} {name}"
            torch.testing.assert_close(tensor, one[cell][name], rtol=0, atol=1e-6, msg=message)


def test_accumulated_passes_train_to_the_weights_of_one(one):
    """Of the same global batch: the large models here have the base ones' shape and seed."""
    for stage in ("pretrain", "finetune"):
        for base, large in ((MODELS[0], MODELS[1]), (MODELS[2], MODELS[3])):
            for name, tensor in one[stage, base].items():
                other = one[stage, large][name]
                torch.testing.assert_close(other, tensor, rtol=0, atol=1e-6, msg=f"{large} {name}")


def test_two_machines_train_to_the_weights_of_one(one, folder_of_one, tmp_path):
    """docs/training.md's command, a process of its own for each machine, over the loopback."""
    model = MODELS[2]
    files = configured(tmp_path)
    shutil.copytree(folder_of_one / "results", tmp_path / "results")
    trained = Path(
        configuration.load(ROOT / file for file in files).paths.checkpoint("pretrain", model)
    )
    shutil.rmtree(trained.parent)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
    options = [option for file in files for option in ("--config", file)]
    command = [sys.executable, "-m", *launch, "--module", "muxplm", "pretrain", model, *options]
    machines = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    printed = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], printed
    for name, tensor in load_file(trained.with_name("model.safetensors")).items():
        expected = one["pretrain", model][name]
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6, msg=name)
