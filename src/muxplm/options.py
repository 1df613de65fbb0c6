"""Arguments and options that several `muxplm` commands share."""

from pathlib import Path
from typing import Annotated

import typer

Files = Annotated[
    list[Path], typer.Option("--config", help="Laid over config/config.yaml, in order.")
]
Model = Annotated[str, typer.Argument(help="A variant, e.g. mux-bert-base-n2.")]
Tasks = Annotated[str, typer.Option(help="Comma-separated; default: all in the config.")]
Processes = Annotated[
    int, typer.Option(min=1, help="Train in so many, a GPU each if there are any.")
]
Seeds = Annotated[str, typer.Option(help="Comma-separated; default: all in the config.")]
Recipe = Annotated[
    str, typer.Option(help="Stop unless the config gives this recipe; the workflow says it.")
]
