"""The `muxplm` command: one sub-command a step of the workflow. Heavy imports wait for their step."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from muxplm import config as configuration
from muxplm import experiments, hub, recipes
from muxplm.files import DataError
from muxplm.mistakes import ConfigError, nearest

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Files = Annotated[
    list[Path], typer.Option("--config", help="Laid over config/config.yaml, in order.")
]
Model = Annotated[str, typer.Argument(help="A variant, e.g. mux-bert-base-n2.")]
Tasks = Annotated[str, typer.Option(help="Comma-separated; default: all in the config.")]
Seeds = Annotated[str, typer.Option(help="Comma-separated; default: all in the config.")]
Recipe = Annotated[
    str, typer.Option(help="Stop unless the config gives this recipe; the workflow says it.")
]


@app.command()
def task_data(task: str, split: str, config: Files = (), recipe: Recipe = ""):
    """Read one split of a task from the config's source, check it, and keep it under results/data."""
    settings = _settings(config, recipe, "task_data", task=task, split=split)
    from muxplm.data.rows import prepare_task

    prepare_task(task, split, settings)


@app.command()
def tokenizer(config: Files = (), recipe: Recipe = ""):
    """Train the WordPiece tokenizer on the corpus, or fetch the pretrained one."""
    settings = _settings(config, recipe, "tokenizer")
    from muxplm.data.prepare import prepare_tokenizer

    prepare_tokenizer(settings)


@app.command()
def blocks(config: Files = (), recipe: Recipe = ""):
    """Tokenize the corpus once and pack it into fixed-length blocks."""
    settings = _settings(config, recipe, "blocks")
    from muxplm.data.prepare import prepare_blocks

    prepare_blocks(settings)


@app.command()
def prime(model: Model, config: Files = (), recipe: Recipe = ""):
    """Token retrieval: the first stage of a multiplexed model."""
    settings = _settings(config, recipe, "prime", model=model)
    from muxplm.training.stages import prime

    prime(settings, model)


@app.command()
def pretrain(model: Model, config: Files = (), recipe: Recipe = ""):
    """Masked language modelling, or replaced-token detection for the ELECTRA families."""
    settings = _settings(config, recipe, "pretrain", model=model)
    from muxplm.training.stages import pretrain

    pretrain(settings, model)


@app.command()
def fetch(model: Model, task: str = "", config: Files = (), recipe: Recipe = ""):
    """Convert the authors' checkpoint of a variant; with --task, the one fine-tuned on it."""
    if task:
        settings = _settings(config, recipe, "published", model=model, task=task)
    else:
        settings = _settings(config, recipe, "released", model=model)
    from muxplm.training.fetching import fetch

    fetch(settings, model, task or None)


@app.command()
def finetune(
    model: Model, tasks: Tasks = "", seeds: Seeds = "", config: Files = (), recipe: Recipe = ""
):
    """Fine-tune on tasks, once for each training seed."""
    settings = _settings(config, recipe, "finetune", model=model, task=tasks, seed=seeds)
    from muxplm.training.stages import finetune

    finetune(settings, model, _task_list(tasks, settings), _seed_list(seeds, settings))


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
    settings = _settings(config, recipe, stage, model=model, task=tasks)
    from muxplm.evaluation.score import write_scores

    write_scores(settings, model, _task_list(tasks, settings), published)


@app.command()
def throughput(
    timed: Annotated[str, typer.Argument(help="Which models: base or sizes.")],
    config: Files = (),
    recipe: Recipe = "",
):
    """Measure a set of models in turn, in one process, on one batch."""
    settings = _settings(config, recipe, "throughput", timed=timed)
    from muxplm.evaluation.throughput import write_throughput

    write_throughput(settings, timed)


@app.command()
def ensemble(model: Model, tasks: Tasks = "", config: Files = (), recipe: Recipe = ""):
    """Score a multiplexed model that sees each instance k times, for k from 1 to N."""
    settings = _settings(config, recipe, "ensembles", model=model, task=tasks)
    from muxplm.evaluation.ensembling import write_ensembles

    write_ensembles(settings, model, _task_list(tasks, settings))


@app.command()
def compose(model: Model, tasks: Tasks = "", config: Files = (), recipe: Recipe = ""):
    """Score a multiplexed model under each strategy of putting instances together."""
    settings = _settings(config, recipe, "compositions", model=model, task=tasks)
    from muxplm.evaluation.composition import write_compositions

    write_compositions(settings, model, _task_list(tasks, settings))


@app.command()
def muxology(model: Model, config: Files = (), recipe: Recipe = ""):
    """Mean absolute activation and attention entropy of every layer of a pre-trained model."""
    settings = _settings(config, recipe, "muxology", model=model)
    from muxplm.evaluation.muxology import write_muxology

    write_muxology(settings, model)


@app.command()
def table(name: str, config: Files = (), recipe: Recipe = ""):
    """Write one table as .tex, .csv and .md."""
    _known(name, experiments.TABLES, "table", "one of the package's")
    settings = _settings(config, recipe, "tables", name)
    from muxplm.reporting.tables import build

    build(name, settings)


@app.command()
def figure(name: str, config: Files = (), recipe: Recipe = ""):
    """Draw one figure as .pdf and .png, its data as .csv."""
    _known(name, experiments.FIGURES, "figure", "one of the package's")
    settings = _settings(config, recipe, "figures", name)
    from muxplm.reporting.figures import draw

    draw(name, settings)


@app.command()
def claims(config: Files = (), recipe: Recipe = ""):
    """Judge each of the paper's claims by what was measured."""
    settings = _settings(config, recipe, "claims", *experiments.targets())
    from muxplm.reporting.claims import write_claims

    write_claims(settings)


@app.command()
def power(
    seeds: Annotated[str, typer.Option(help="How many training seeds, several numbers.")] = "2,3,5",
    config: Files = (),
):
    """Print how often each claim would come out right, with the spreads that were measured."""
    from muxplm.reporting.claims import power_table

    numbers = [int(n) if n.isdecimal() else 0 for n in seeds.split(",")]
    if min(numbers) < 2:
        raise ConfigError(f"--seeds {seeds!r}: give numbers from 2 on, such as 2,3,5")
    print(power_table(configuration.load(config), numbers))


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
    from muxplm.models.released.conversion import convert

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
def pin(config: Files = ()):
    """Print today's commits of what a config reads from the Hub, as a config to lay over it."""
    from muxplm.pinning import pins

    print(pins(configuration.load(config)), end="")


@app.command()
def schema():
    """Print the JSON schema of the config, as workflow/schemas/config.schema.yaml holds it."""
    print(yaml.safe_dump(configuration.schema(), sort_keys=False), end="")


def _settings(files, recipe: str, stage: str, *names: str, **cell: str):
    """The settings of `files`, if the names are in them and they give the recipe that a job was told.

    A config may have changed since the workflow was planned: a job that ran on would leave another
    model under the planned one's recipe.
    """
    settings = configuration.load(files)
    known = {
        "model": settings.variants,
        "split": hub.SPLITS,
        "timed": experiments.TIMED,
        "task": settings.tasks,
        "seed": list(map(str, settings.training_seeds)),
    }
    titles = {"model": "variant", "timed": "set of models", "seed": "training seed"}
    for key, value in cell.items():
        for name in value.split(",") if value else ():
            _known(name, known[key], titles.get(key, key))
    for name in names:
        _known(name, experiments.targets(), "table or figure")
    for axis, listed in (("task", _task_list), ("seed", _seed_list)):
        if axis in cell:
            cell[axis] = listed(cell[axis], settings)
    if recipe and (found := recipes.of_job(settings, stage, *names, **cell)) != recipe:
        raise ConfigError(
            f"this job was planned for recipe {recipe} and {' '.join(map(str, files)) or 'the config'} "
            f"gives {found}: start the workflow again"
        )
    return settings


def _known(name, known, what, where="in this config"):
    if name not in known:
        raise ConfigError(f"{what} {name!r} is not {where}{nearest(name, known)}")
    return name


def _task_list(tasks: str, settings):
    return [task for task in tasks.split(",") if task] or settings.tasks


def _seed_list(seeds: str, settings):
    return [int(seed) for seed in seeds.split(",") if seed] or settings.training_seeds


def main():
    """Mistakes of the user end in their own words and exit code 1, not in a traceback."""
    try:
        app()
    except (ConfigError, DataError) as error:
        print(f"muxplm: {error}", file=sys.stderr)
        sys.exit(1)
