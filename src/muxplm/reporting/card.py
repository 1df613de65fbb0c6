"""A fine-tuned model as a folder for the Hub: weights, tokenizer, and a card with what was measured."""

import shutil
from pathlib import Path

import jinja2
import numpy as np
from huggingface_hub import EvalResult, ModelCardData

from muxplm import experiments
from muxplm.files import DataError, atomic_folder, read_json, write_text
from muxplm.reporting import captions
from muxplm.reporting.scores import read_result
from muxplm.settings import Settings
from muxplm.tasks import TASKS

TAGS = {"tagging": "token-classification"}
SOURCES = {
    "synthetic": "the embedded synthetic language",
    "local": "a local mirror of the Hub's data sets",
    "hub": "the Hub's data sets",
}


def export(settings: Settings, name: str, task_name: str, destination: str):
    """Writes `destination`: the first training seed's model, its tokenizer and README.md.

    DataError if `destination` exists, or if the model was not fine-tuned and scored.
    """
    if Path(destination).exists():
        raise DataError(f"{destination} exists: delete it or name another folder")
    seed = settings.training_seeds[0]
    weights = Path(settings.paths.finetuned(name, task_name, seed))
    if not weights.exists():
        raise DataError(f"{weights} is missing: make it with `snakemake --cores all {weights}`")
    content = card(settings, name, task_name, seed)
    with atomic_folder(destination) as draft:
        for file in (*weights.parent.iterdir(), *Path(settings.paths.tokenizer).parent.iterdir()):
            shutil.copy(file, draft)
        write_text(draft / "README.md", content)


def card(settings: Settings, name: str, task_name: str, seed: int) -> str:
    """The model card, with the Hub's metadata in front."""
    task, variant = TASKS[task_name], settings.variants[name]
    scores = read_result(settings.paths.scores(name, task_name))
    runs = [run["metrics"][task.metric] for run in scores["scores"] if run["training_seed"] == seed]
    if not runs:
        raise DataError(f"{settings.paths.scores(name, task_name)} has no training seed {seed}")
    values = 100 * np.array(runs)
    dataset = task.title + (" (synthetic)" if settings.data.source == "synthetic" else "")
    tag = TAGS.get(task.kind, "text-classification")
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=tag,
        tags=["muxplm", "arxiv:2302.12441"],
        model_name=name,
        eval_results=[
            EvalResult(tag, task_name, dataset, task.metric, round(float(values.mean()), 2))
        ],
    )
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True
    ).get_template("card.md.jinja")
    return template.render(
        card_data=data.to_yaml(),
        model=name,
        task=task,
        variant=variant,
        family=variant.recipe,
        n=variant.n,
        scale=captions.scale(settings, [variant]),
        metric=task.metric.replace("_", " "),
        rows=scores["rows"],
        mean=f"{values.mean():.1f}",
        std=f"{values.std():.1f}",
        best=f"{values.max():.1f}",
        majority=f"{100 * scores['majority'].get(task.metric, float('nan')):.1f}",
        seed=seed,
        seeds=len(values),
        source=SOURCES[settings.data.source],
        pipeline_tag=tag,
        **_speed(settings, name),
    )


def _speed(settings: Settings, name: str) -> dict:
    """The speed-up, if a run has measured it."""
    for timed in experiments.TIMED:
        path = Path(settings.paths.throughput(timed))
        if path.exists() and name in (content := read_json(path))["models"]:
            ratio = content["models"][name]["speedup"]["median"]
            keys = ("reference", "device")
            return {key: content[key] for key in keys} | {"speedup": f"{ratio:.1f}"}
    return {"speedup": None}
