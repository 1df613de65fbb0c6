"""`muxplm convert|export|predict`: what is done with a model that is trained."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from muxplm.arguments import PRECISIONS, known
from muxplm.mistakes import ConfigError
from muxplm.options import Files, Model

app = typer.Typer()

Format = Annotated[
    Literal["torch", "onnx"],
    typer.Option("--format", help="onnx needs `pip install 'muxplm\\[onnx]'`."),
]
SEED = typer.Option(min=0, max=2**32 - 1, help="Shuffle with this seed.")
OnnxPrecision = Annotated[Literal["fp32", "int8"], typer.Option(help="Of an ONNX file.")]


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder in the authors' layout, or a Hub id; for onnx one of `muxplm predict`'s."
        ),
    ],
    destination: Annotated[Path, typer.Argument(help="The folder to write.")],
    revision: Annotated[str, typer.Option(help="Commit of the Hub's repository.")] = "",
    kind: Format = "torch",
    precision: OnnxPrecision = "fp32",
):
    """Turn a checkpoint of the paper's authors into a model that transformers loads.

    With --format onnx: a fine-tuned model that transformers loads into one that onnxruntime runs.
    """
    if onnx := _onnx(kind, precision):
        from muxplm.tracing import convert_folder

        convert_folder(source, destination, onnx)
        return
    from muxplm.models.released.conversion import convert

    convert(source, str(destination), revision or None)


@app.command()
def export(
    model: Model,
    task: str,
    destination: Annotated[Path, typer.Argument(help="The folder to write.")],
    config: Files = (),
    results: Annotated[
        Path | None, typer.Option(help="A run's results folder, in the place of --config.")
    ] = None,
    kind: Format = "torch",
    precision: OnnxPrecision = "fp32",
):
    """Write a fine-tuned model with tokenizer and model card, ready for the Hub or onnxruntime."""
    onnx = _onnx(kind, precision)
    from muxplm.export import export, settings_of

    settings = settings_of(results, config)
    name = known(model, settings.variants, "variant")
    export(settings, name, known(task, settings.tasks, "task"), destination, onnx)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a fine-tuned model and its tokenizer.")],
    source: Annotated[Path, typer.Option("--input", help="A .jsonl, .csv or .parquet file.")],
    output: Annotated[Path, typer.Option(help="The same kinds.")],
    text: Annotated[list[str], typer.Option(help="Column of the text; twice for pairs.")] = (
        "text",
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="Texts a pass, in whole groups.")] = 64,
    precision: Annotated[str, typer.Option(help="bf16, fp32 or auto.")] = "auto",
    composition_seed: Annotated[int | None, SEED] = None,
    copies: Annotated[int, typer.Option(min=1, help="Ensemble: each text so often, up to N.")] = 1,
):
    """Label the texts of a file with a fine-tuned model. Texts longer than it takes are cut."""
    from muxplm.prediction import predict

    known(precision, PRECISIONS, "precision")
    predict(model, source, output, text, batch_size, precision, composition_seed, copies)


def _onnx(kind: str, precision: str) -> str | None:
    """The precision of the ONNX file that was asked for; None for torch."""
    if kind == "torch" and precision != "fp32":
        raise ConfigError(f"--precision {precision} is of ONNX files: add --format onnx")
    return precision if kind == "onnx" else None
