"""The `muxplm` command: one sub-command a step of the workflow. Heavy imports wait for their step."""

import gc
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
import yaml

from muxplm import config as configuration
from muxplm import experiments, refusals
from muxplm.arguments import cells_of_job, known, seed_counts, settings_of_job, share, task_list
from muxplm.benchmarks.commands import app as benchmarks
from muxplm.options import Files, Model, Processes, Recipe, Seeds, Tasks
from muxplm.using import app as using

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(benchmarks, name="benchmark")
app.add_typer(using)


def _print_version(wanted: bool):
    if wanted:
        print(f"muxplm {version('muxplm')}")
        raise typer.Exit


VERSION = typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")


@app.callback()
def options(version: Annotated[bool, VERSION] = False):
    """MUX-PLMs reproduced: a sub-command for each step of the workflow, and for using its models."""


@app.command()
def task_data(task: str, split: str, config: Files = (), recipe: Recipe = ""):
    """Read one split of a task from the config's source, check it, and keep it under results/data."""
    settings = settings_of_job(config, recipe, "task_data", task=task, split=split)
    from muxplm.data.rows import prepare_task

    prepare_task(task, split, settings)


@app.command()
def tokenizer(config: Files = (), recipe: Recipe = ""):
    """Train the WordPiece tokenizer on the corpus, or fetch the pretrained one."""
    settings = settings_of_job(config, recipe, "tokenizer")
    from muxplm.data.prepare import prepare_tokenizer

    prepare_tokenizer(settings)


@app.command()
def blocks(config: Files = (), recipe: Recipe = ""):
    """Tokenize the corpus once and pack it into fixed-length blocks."""
    settings = settings_of_job(config, recipe, "blocks")
    from muxplm.data.prepare import prepare_blocks

    prepare_blocks(settings)


@app.command()
def prime(model: Model, config: Files = (), processes: Processes = 1, recipe: Recipe = ""):
    """Token retrieval: the first stage of a multiplexed model."""
    settings = settings_of_job(config, recipe, "prime", model=model)
    share(settings, "prime", model, processes)
    from muxplm.training.stages import prime

    prime(settings, model)


@app.command()
def pretrain(model: Model, config: Files = (), processes: Processes = 1, recipe: Recipe = ""):
    """Masked language modelling, or replaced-token detection for the ELECTRA families."""
    settings = settings_of_job(config, recipe, "pretrain", model=model)
    share(settings, "pretrain", model, processes)
    from muxplm.training.stages import pretrain

    pretrain(settings, model)


@app.command()
def fetch(model: Model, task: str = "", config: Files = (), recipe: Recipe = ""):
    """Convert the authors' checkpoint of a variant; with --task, the one fine-tuned on it."""
    if task:
        settings = settings_of_job(config, recipe, "published", model=model, task=task)
    else:
        settings = settings_of_job(config, recipe, "released", model=model)
    from muxplm.training.fetching import fetch

    fetch(settings, model, task or None)


@app.command()
def finetune(
    model: Model,
    tasks: Tasks = "",
    seeds: Seeds = "",
    config: Files = (),
    processes: Processes = 1,
    recipe: Recipe = "",
):
    """Fine-tune on tasks, once for each training seed."""
    settings, *cells = cells_of_job("finetune", model, tasks, seeds, config, processes, recipe)
    from muxplm.training.stages import finetune

    finetune(settings, model, *cells)


@app.command()
def prune(
    model: Model,
    tasks: Tasks = "",
    seeds: Seeds = "",
    config: Files = (),
    processes: Processes = 1,
    recipe: Recipe = "",
):
    """Prune fine-tuned models: of a variant such as mux-bert-base-n2-cofi0.6, its parent's."""
    settings, *cells = cells_of_job("prune", model, tasks, seeds, config, processes, recipe)
    from muxplm.pruning.stage import prune

    prune(settings, model, *cells)


@app.command()
def score(
    model: Model,
    tasks: Tasks = "",
    config: Files = (),
    published: Annotated[bool, typer.Option(help="The authors' fine-tuned model.")] = False,
    recipe: Recipe = "",
):
    """Score fine-tuned models under every composition seed."""
    stage = "published_scores" if published else "score"
    settings = settings_of_job(config, recipe, stage, model=model, task=tasks)
    from muxplm.evaluation.score import write_scores

    write_scores(settings, model, task_list(tasks, settings, model), published)


@app.command()
def throughput(
    timed: Annotated[str, typer.Argument(help="Which models: base, sizes, ablations or pruned.")],
    config: Files = (),
    recipe: Recipe = "",
):
    """Measure a set of models in turn, in one process, on one batch."""
    settings = settings_of_job(config, recipe, "throughput", timed=timed)
    from muxplm.evaluation.throughput import write_throughput

    write_throughput(settings, timed)


@app.command()
def ensemble(model: Model, tasks: Tasks = "", config: Files = (), recipe: Recipe = ""):
    """Score a multiplexed model that sees each instance k times, for k from 1 to N."""
    settings = settings_of_job(config, recipe, "ensembles", model=model, task=tasks)
    from muxplm.evaluation.ensembling import write_ensembles

    write_ensembles(settings, model, task_list(tasks, settings, model))


@app.command()
def compose(model: Model, tasks: Tasks = "", config: Files = (), recipe: Recipe = ""):
    """Score a multiplexed model under each strategy of putting instances together."""
    settings = settings_of_job(config, recipe, "compositions", model=model, task=tasks)
    from muxplm.evaluation.composition import write_compositions

    write_compositions(settings, model, task_list(tasks, settings, model))


@app.command()
def muxology(model: Model, config: Files = (), recipe: Recipe = ""):
    """Mean absolute activation and attention entropy of every layer of a pre-trained model."""
    settings = settings_of_job(config, recipe, "muxology", model=model)
    from muxplm.evaluation.muxology import write_muxology

    write_muxology(settings, model)


@app.command()
def table(name: str, config: Files = (), recipe: Recipe = ""):
    """Write one table as .tex, .csv and .md."""
    known(name, experiments.TABLES, "table", "one of the package's")
    settings = settings_of_job(config, recipe, "tables", name)
    from muxplm.provenance import name_stale
    from muxplm.reporting.tables import build

    build(name, settings)
    name_stale(experiments.TABLES[name], settings)


@app.command()
def figure(name: str, config: Files = (), recipe: Recipe = ""):
    """Draw one figure as .pdf and .png, its data as .csv."""
    known(name, experiments.FIGURES, "figure", "one of the package's")
    settings = settings_of_job(config, recipe, "figures", name)
    from muxplm.provenance import name_stale
    from muxplm.reporting.figures import draw

    draw(name, settings)
    name_stale(experiments.FIGURES[name], settings)


@app.command()
def claims(config: Files = (), recipe: Recipe = ""):
    """Judge each of the paper's claims by what was measured."""
    settings = settings_of_job(config, recipe, "claims", *experiments.targets())
    from muxplm.reporting.claims import write_claims

    write_claims(settings)


@app.command()
def provenance(
    path: Annotated[
        Path, typer.Argument(help="A table or figure, e.g. results/tables/table1.tex.")
    ],
    config: Files = (),
):
    """Print the runs behind a table, and of each whether it is current."""
    from muxplm.provenance import tell

    for line in tell(path, configuration.load(config)):
        print(line)


@app.command()
def power(
    seeds: Annotated[str, typer.Option(help="How many training seeds, several numbers.")] = "2,3,5",
    config: Files = (),
):
    """Print how often each claim would come out right, with the spreads that were measured."""
    from muxplm.reporting.claims import power_table

    print(power_table(configuration.load(config), seed_counts(seeds)))


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
def demo(
    sentences: Annotated[Path | None, typer.Option(help="Your own, one a line.")] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the run's model here in float16, and stop.")
    ] = None,
    config: Files = (),
):
    """Mix ten sentences into one row, and read them back from one pass of the encoder.

    The model is this run's mux-bert-base-n10, if it is primed; else a small one that muxplm ships.
    """
    there = config or write or configuration.DEFAULT.exists()
    settings = configuration.load(config) if there else None
    if write:
        from muxplm.demo.shipping import ship

        ship(settings, write)
        return
    from muxplm.demo.telling import tell

    for line in tell(settings, sentences):
        print(line)


@app.command()
def pin(config: Files = ()):
    """Print today's commits of what a config reads from the Hub, as a config to lay over it."""
    from muxplm.pinning import pins

    print(pins(configuration.load(config)), end="")


@app.command()
def schema():
    """Print the JSON schema of the config, as workflow/schemas/config.schema.yaml holds it."""
    print(yaml.safe_dump(configuration.schema(), sort_keys=False), end="")


def main():
    # Imports make some 400,000 objects that stay. Python's collector would walk them over and over:
    # a tenth of the seconds in which a process starts.
    gc.set_threshold(50_000)
    refusals.run(app)
