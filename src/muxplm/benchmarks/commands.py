"""`muxplm benchmark ...`: speeds as ratios, measured side by side."""

import os
from pathlib import Path
from typing import Annotated

import typer

from muxplm.arguments import known
from muxplm.files import DataError

app = typer.Typer(no_args_is_help=True, help="Time inference, training or a run of the workflow.")

FAMILIES = ("tmux", "mux-bert", "contextual", "pruned")
NUMBERS = [str(n) for n in range(2, 21)]  # instances in one pass
Rounds = Annotated[int, typer.Option(min=1, help="Interleaved rounds.")]


@app.command()
def inference(
    output: Annotated[
        Path, typer.Option(help="Where the figures go, as JSON, and a picture beside it.")
    ] = Path("results/benchmarks/inference.json"),
    models: Annotated[str, typer.Option(help=f"Of {', '.join(FAMILIES)}.")] = "tmux,mux-bert",
    n: Annotated[str, typer.Option("--n", help="Beside BERT's 1.")] = "2,10",
    tasks: Annotated[str, typer.Option(help="sequence, token.")] = "sequence",
    sizes: Annotated[str, typer.Option(help="small, base.")] = "base",
    precisions: Annotated[
        str, typer.Option(help="Those that this machine computes are timed.")
    ] = "fp32,bf16,int8",
    engines: Annotated[str, typer.Option(help="torch, onnxruntime.")] = "torch,onnxruntime",
    rounds: Rounds = 3,
    batch: Annotated[int, typer.Option(min=1, help="Instances of 128 tokens.")] = 60,
    tricks: Annotated[
        bool, typer.Option(help="MUX-BERT against the formulas as they are written, too.")
    ] = True,
):
    """Multiplexing beside lower precision and another engine, with random weights."""
    lists = {
        "families": _listed(models, "models", FAMILIES),
        "n_values": tuple(int(k) for k in _listed(n, "n", NUMBERS)),
        "tasks": _listed(tasks, "tasks", ("sequence", "token")),
        "sizes": _listed(sizes, "sizes", ("small", "base")),
        "precisions": _listed(precisions, "precisions", ("fp32", "bf16", "int8")),
        "engines": _listed(engines, "engines", ("torch", "onnxruntime")),
    }
    if batch < (most := max(lists["n_values"])):
        raise DataError(f"--batch {batch} does not fill a row of N = {most}: take {most} or more")
    check_output(output)
    from muxplm.benchmarks.inference import Plan, run_benchmark

    run_benchmark(str(output), Plan(**lists, rounds=rounds, batch=batch), tricks)


def _listed(text: str, option: str, names) -> tuple[str, ...]:
    """Of "fp32,bf16"; ConfigError if one of them is not one of `names`."""
    return tuple(known(name.strip(), names, f"--{option}:", "known") for name in text.split(","))


@app.command()
def overhead(
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        "results/benchmarks/overhead.json"
    ),
    texts: Annotated[int, typer.Option(min=1, help="Of 5 to 20 words.")] = 20_000,
    n: Annotated[str, typer.Option("--n", help="Instances in one pass.")] = "1,2,10",
    rounds: Rounds = 3,
):
    """What a pipeline and `muxplm predict` cost outside the model: microseconds a text and core."""
    n_values = tuple(int(k) for k in _listed(n, "n", ["1", *NUMBERS]))
    check_output(output)
    from muxplm.benchmarks.overhead import run_benchmark

    run_benchmark(str(output), texts, n_values, rounds)


@app.command()
def training(
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        "results/benchmarks/training.json"
    ),
    encoders: Annotated[
        str, typer.Option(help="2x128, 4x256; 12x768, the paper's base size, takes minutes.")
    ] = "2x128,4x256",
    n: Annotated[str, typer.Option("--n", help="Instances in one pass.")] = "1,5,10",
    rounds: Rounds = 10,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say in which operations a step's time is spent.")
    ] = False,
):
    """Training steps beside plain ones, and the memory that a step takes."""
    n_values = tuple(int(k) for k in _listed(n, "n", ["1", *NUMBERS]))
    check_output(output)
    from muxplm.benchmarks.training import SHAPES, run_benchmark

    run_benchmark(str(output), rounds, _listed(encoders, "encoders", SHAPES), n_values, profile)


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
