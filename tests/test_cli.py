"""The `muxplm` command itself, as installed."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

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
