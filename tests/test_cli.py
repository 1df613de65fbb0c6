"""The `muxplm` command itself, as installed."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import build
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from muxplm.cli import app
from muxplm.mistakes import ConfigError
from muxplm.models.modeling import MuxForSequenceClassification

MUXPLM = Path(sys.executable).with_name("muxplm")


def run(*arguments, **environment):
    """What the command prints."""
    return subprocess.run(
        [MUXPLM, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_version_is_the_packages():
    assert run("--version") == f"muxplm {version('muxplm')}\n"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("muxplm pre", {"pretrain", "predict"}), ("muxplm predict --comp", {"--composition-seed"})],
)
def test_the_shell_completes_commands_and_options(typed, expected):
    typing = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    assert set(run(_MUXPLM_COMPLETE="complete_bash", **typing).split()) == expected


def test_completion_can_be_installed():
    assert "--install-completion" in run("--help", COLUMNS="200")


def test_a_refusal_is_one_line(tmp_path, tokenizer):
    """Nothing of what the libraries have to say on the way, and no traceback."""
    build(MuxForSequenceClassification).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "classifier" not in name}
    save_file(kept, tmp_path / "model" / "model.safetensors")
    (tmp_path / "in.csv").write_text("text\nw1\n")
    command = [MUXPLM, "predict", "model", "--input", "in.csv", "--output", "out.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("muxplm: model lacks weights that its model needs (classifier.bias,")


def test_a_cell_is_made_by_its_own_command():
    """Fine-tuning makes no pruned one; pruning neither a dense one nor a task that is not pruned."""
    for arguments, complaint in (
        (["finetune", "mux-bert-base-n2-cofi0.6"], "is not one that `finetune` makes"),
        (["prune", "mux-bert-base-n2"], "is not one that `prune` makes"),
        (["prune", "mux-bert-base-n2-cofi0.6", "--tasks", "ner"], "task 'ner' is not one of"),
        (["prime", "mux-bert-base-n2-cofi0.6"], "has no stage prime: take mux-bert-base-n2"),
        (["muxology", "bert-base-int8"], "has no stage muxology: take bert-base"),
        (["prime", "bert-base"], "has no stage prime; known: pretrain"),
    ):
        result = CliRunner().invoke(app, [*arguments, "--config", "config/smoke.yaml"])
        assert isinstance(result.exception, ConfigError) and complaint in str(result.exception)
