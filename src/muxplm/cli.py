"""The `muxplm` command: one sub-command a step of the workflow. Heavy imports wait for their step."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from muxplm import config as configuration
from muxplm.config import ConfigError, nearest
from muxplm.files import DataError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Files = Annotated[
    list[Path], typer.Option("--config", help="Laid over config/config.yaml, in order.")
]
Model = Annotated[str, typer.Argument(help="A variant, e.g. mux-bert-base-n2.")]
Tasks = Annotated[str, typer.Option(help="Comma-separated; default: all in the config.")]
Processes = Annotated[
    int, typer.Option(min=1, help="Train in so many, a GPU each if there are any.")
]
Seeds = Annotated[str, typer.Option(help="Comma-separated; default: all in the config.")]


@app.command()
def task_data(task: str, config: Files = ()):
    """Read one task from the config's source, check it, and keep it under results/data/tasks."""
    from muxplm.data.prepare import prepare_task

    settings = configuration.load(config)
    prepare_task(_known(task, settings.tasks, "task"), settings)


@app.command()
def tokenizer(config: Files = ()):
    """Train the WordPiece tokenizer on the corpus, or fetch the pretrained one."""
    from muxplm.data.prepare import prepare_tokenizer

    prepare_tokenizer(configuration.load(config))


@app.command()
def blocks(config: Files = ()):
    """Tokenize the corpus once and pack it into fixed-length blocks."""
    from muxplm.data.prepare import prepare_blocks

    prepare_blocks(configuration.load(config))


@app.command()
def prime(model: Model, config: Files = (), processes: Processes = 1):
    """Token retrieval: the first stage of a multiplexed model."""
    settings = configuration.load(config)
    name = _known(model, settings.variants, "variant")
    _share(settings, "prime", name, processes)
    from muxplm.training.stages import prime

    prime(settings, name)


@app.command()
def pretrain(model: Model, config: Files = (), processes: Processes = 1):
    """Masked language modelling, or replaced-token detection for the ELECTRA families."""
    settings = configuration.load(config)
    name = _known(model, settings.variants, "variant")
    _share(settings, "pretrain", name, processes)
    from muxplm.training.stages import pretrain

    pretrain(settings, name)


@app.command()
def fetch(model: Model, task: str = "", config: Files = ()):
    """Convert the authors' checkpoint of a variant; with --task, the one fine-tuned on it."""
    from muxplm.models.released import fetch

    settings = configuration.load(config)
    name = _known(model, settings.variants, "variant")
    fetch(settings, name, _known(task, settings.tasks, "task") if task else None)


@app.command()
def finetune(
    model: Model,
    tasks: Tasks = "",
    seeds: Seeds = "",
    config: Files = (),
    processes: Processes = 1,
):
    """Fine-tune on tasks, once for each training seed."""
    settings = configuration.load(config)
    name = _known(model, settings.variants, "variant")
    chosen = _task_list(tasks, settings), _seed_list(seeds, settings)
    _share(settings, "finetune", name, processes)
    from muxplm.training.stages import finetune

    finetune(settings, name, *chosen)


@app.command()
def score(
    model: Model,
    tasks: Tasks = "",
    config: Files = (),
    published: Annotated[bool, typer.Option(help="The authors' fine-tuned model.")] = False,
):
    """Score fine-tuned models under every composition seed."""
    from muxplm.evaluation.score import write_scores

    settings = configuration.load(config)
    name = _known(model, settings.variants, "variant")
    write_scores(settings, name, _task_list(tasks, settings), published)


@app.command()
def throughput(
    timed: Annotated[str, typer.Argument(help="Which models: base or sizes.")], config: Files = ()
):
    """Measure a set of models in turn, in one process, on one batch."""
    from muxplm.evaluation.throughput import write_throughput
    from muxplm.experiments import TIMED

    write_throughput(configuration.load(config), _known(timed, TIMED, "set of models"))


@app.command()
def ensemble(model: Model, tasks: Tasks = "", config: Files = ()):
    """Score a multiplexed model that sees each instance k times, for k from 1 to N."""
    from muxplm.evaluation.ensembling import write_ensembles

    settings = configuration.load(config)
    name = _known(model, settings.variants, "variant")
    write_ensembles(settings, name, _task_list(tasks, settings))


@app.command()
def compose(model: Model, tasks: Tasks = "", config: Files = ()):
    """Score a multiplexed model under each strategy of putting instances together."""
    from muxplm.evaluation.composition import write_compositions

    settings = configuration.load(config)
    name = _known(model, settings.variants, "variant")
    write_compositions(settings, name, _task_list(tasks, settings))


@app.command()
def muxology(model: Model, config: Files = ()):
    """Mean absolute activation and attention entropy of every layer of a pre-trained model."""
    from muxplm.evaluation.muxology import write_muxology

    settings = configuration.load(config)
    write_muxology(settings, _known(model, settings.variants, "variant"))


@app.command()
def table(name: str, config: Files = ()):
    """Write one table as .tex, .csv and .md."""
    from muxplm.reporting.tables import build

    build(name, configuration.load(config))


@app.command()
def figure(name: str, config: Files = ()):
    """Draw one figure as .pdf and .png, its data as .csv."""
    from muxplm.reporting.figures import draw

    draw(name, configuration.load(config))


@app.command()
def claims(config: Files = ()):
    """Judge each of the paper's claims by what was measured."""
    from muxplm.reporting.claims import write_claims

    write_claims(configuration.load(config))


@app.command()
def plan(
    targets: Annotated[list[str], typer.Argument(help="As for snakemake.")] = (),
    configfile: Annotated[list[Path], typer.Option(help="As for snakemake.")] = (),
    config: Annotated[list[str], typer.Option(help="key=value, as for snakemake.")] = (),
):
    """Say what a run would do and cost, before anything is spent."""
    from muxplm.plan import plan

    print(plan([str(file) for file in configfile], list(targets), list(config)).rstrip())


@app.command()
def benchmark(
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        "results/benchmarks/base_size.json"
    ),
    precision: Annotated[str, typer.Option(help="bf16, fp32 or auto.")] = "auto",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.")] = 5,
    batch: Annotated[int, typer.Option(help="Instances per forward pass.")] = 60,
):
    """Speed and memory at the paper's base size, multiplexed against plain, with random weights."""
    from muxplm.evaluation.benchmark import run_benchmark

    run_benchmark(str(output), precision, rounds, batch)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A folder in the authors' layout, or a Hub id.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write.")],
    revision: Annotated[str, typer.Option(help="Commit of the Hub's repository.")] = "",
):
    """Turn a checkpoint of the paper's authors into a model that transformers loads."""
    from muxplm.models.conversion import convert

    convert(source, str(destination), revision or None)


@app.command()
def export(
    model: Model,
    task: str,
    destination: Annotated[Path, typer.Argument(help="The folder to write.")],
    config: Files = (),
):
    """Write a fine-tuned model with tokenizer and model card, ready for the Hub."""
    from muxplm.reporting.card import export

    settings = configuration.load(config)
    name = _known(model, settings.variants, "variant")
    export(settings, name, _known(task, settings.tasks, "task"), str(destination))


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
    composition_seed: Annotated[int | None, typer.Option(help="Shuffle with this seed.")] = None,
    copies: Annotated[int, typer.Option(min=1, help="Ensemble: each text so often, up to N.")] = 1,
):
    """Label the texts of a file with a fine-tuned model. Texts longer than it takes are cut."""
    from muxplm.prediction import predict

    _known(precision, ("bf16", "fp32", "auto"), "precision")
    predict(model, source, output, text, batch_size, precision, composition_seed, copies)


@app.command()
def schema():
    """Print the JSON schema of the config, as workflow/schemas/config.schema.yaml holds it."""
    print(yaml.safe_dump(configuration.schema(), sort_keys=False), end="")


def _share(settings, stage, name, processes):
    """Before the stage's own imports: the command's first process only starts the others."""
    from muxplm.training.processes import launch

    launch(processes, settings.training(stage, name).rows)


def _known(name, known, what):
    if name not in known:
        raise ConfigError(f"{what} {name!r} is not in this config{nearest(name, known)}")
    return name


def _task_list(tasks: str, settings):
    names = [task for task in tasks.split(",") if task] or settings.tasks
    return [_known(task, settings.tasks, "task") for task in names]


def _seed_list(seeds: str, settings):
    known = {str(seed): seed for seed in settings.training_seeds}
    return [
        known[_known(seed, known, "training seed")] for seed in seeds.split(",") if seed
    ] or list(known.values())


def main():
    """Mistakes of the user end in their own words and exit code 1, not in a traceback."""
    try:
        app()
    except (ConfigError, DataError) as error:
        print(f"muxplm: {error}", file=sys.stderr)
        sys.exit(1)
