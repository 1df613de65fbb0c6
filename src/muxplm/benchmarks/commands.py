"""`muxplm benchmark ...`: speeds as ratios, measured side by side."""

import os
from pathlib import Path
from typing import Annotated

import typer

from muxplm.arguments import PRECISIONS, known
from muxplm.files import DataError

app = typer.Typer(no_args_is_help=True, help="Time inference, training or a run of the workflow.")

Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds.")]


@app.command()
def inference(
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        "results/benchmarks/inference.json"
    ),
    precision: Annotated[str, typer.Option(help="bf16, fp32 or auto.")] = "auto",
    rounds: Rounds = 5,
    batch: Annotated[int, typer.Option(min=1, help="Instances per forward pass.")] = 60,
):
    """Forward passes at the paper's base size, multiplexed against plain, with random weights."""
    known(precision, PRECISIONS, "precision")
    check_output(output)
    from muxplm.benchmarks.inference import run_benchmark

    run_benchmark(str(output), precision, rounds, batch)


@app.command()
def training(
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        "results/benchmarks/training.json"
    ),
    rounds: Rounds = 10,
    large: Annotated[bool, typer.Option(help="The paper's base size too: takes minutes.")] = True,
):
    """Training steps of three sizes beside plain ones, and the memory that a step takes."""
    check_output(output)
    from muxplm.benchmarks.training import LARGE, SHAPES, run_benchmark

    run_benchmark(str(output), rounds, [shape for shape in SHAPES if large or shape != LARGE])


@app.command()
def dag(
    results: Annotated[
        str, typer.Argument(help="The results folder of a finished run.")
    ] = "results",
    than: Annotated[str, typer.Option(help="That of another run, to compare with.")] = "",
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        "results/benchmarks/dag.json"
    ),
    cores: Annotated[int, typer.Option(min=1, help="Of the run.")] = os.cpu_count() or 1,
):
    """What a finished run of the workflow cost: core-seconds by stage, how busy the cores were."""
    from muxplm.benchmarks.dag import run_benchmark

    run_benchmark(str(output), results, than or None, cores)


def check_output(file: Path):
    """Before minutes are spent on what then cannot be written."""
    there = next(folder for folder in file.absolute().parents if folder.exists())
    if not there.is_dir():
        raise DataError(f"{file} cannot be written ({there} is no folder): name another file")
