"""examples/nodes.sbatch as it stands, on both nodes of slurm.sh's cluster: the weights of one process.

    python tests/cluster/two_nodes.py     # beside a cluster of tests/cluster/slurm.sh

The workflow has to take what was trained so as its own.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from kills import Run
from test_processes import CHANGES, MODELS

SCRIPT = Path(__file__).parents[2] / "examples/nodes.sbatch"
MODEL = MODELS[2]  # a multiplexed one


def main():
    folder = Path(tempfile.mkdtemp(prefix="nodes-")).resolve()
    one, two = (Run(folder / name, CHANGES) for name in ("one", "two"))
    trained = one.settings.paths.checkpoint("pretrain", MODEL)
    one.targets = [trained]
    two.targets = [one.settings.paths.checkpoint("prime", MODEL), one.settings.paths.blocks]
    end(one)
    end(two)
    options = [option for file in two.files for option in ("--config", file)]
    submit = ["sbatch", "--wait", "--nodes=2", "--mem=2000", "--output=nodes.log", str(SCRIPT)]
    done = two.copy.run(*submit, "pretrain", MODEL, *options)
    said = (two.copy.folder / "nodes.log").read_text()
    assert done.returncode == 0, done.stdout + said
    expected, found = (
        load_file((run.copy.folder / trained).with_name("model.safetensors")) for run in (one, two)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    whole = two.weights()
    two.targets = [trained]
    end(two)
    assert two.weights() == whole, "the workflow trained again what the two nodes had trained"
    print("two nodes: the weights of one process, taken by the workflow", flush=True)
    shutil.rmtree(folder)


def end(run: Run):
    run.start()
    assert run.process.wait() == 0, f"failed: {run.copy.folder}/said.log"


if __name__ == "__main__":
    main()
