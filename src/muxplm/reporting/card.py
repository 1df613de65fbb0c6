"""The model card of an exported model: what it is, what was measured, how to use it."""

from importlib.metadata import metadata, version
from pathlib import Path

import jinja2
import numpy as np
from huggingface_hub import EvalResult, ModelCardData

from muxplm import experiments
from muxplm.files import DataError, as_written, read_json
from muxplm.reporting import captions
from muxplm.reporting.scores import read_result
from muxplm.settings import Settings
from muxplm.tasks import TASKS

TAGS = {"tagging": "token-classification"}
SOURCES = {"local": "a local mirror of the Hub's data sets", "hub": "the Hub's data sets"}
LIBRARIES = ("torch", "transformers")  # what a folder that brings its code needs
EXAMPLES = {
    1: '["a first text", "a second one"]',
    2: '[{"text": "one half", "text_pair": "the other"}]',
}


def card(
    settings: Settings,
    name: str,
    task_name: str,
    seed: int,
    limit: int | None,
    folder: str,
    onnx: str | None = None,
) -> str:
    """The card of a model that takes `limit` tokens and lies in `folder`, the Hub's metadata in front.

    onnx: the precision of the folder's ONNX file, None where it holds weights. DataError if the model
    was not scored.
    """
    task, variant = TASKS[task_name], settings.variants[name]
    with as_written(path := settings.paths.scores(name, task_name)):
        scores = read_result(path)
        every, majority = scores["scores"], scores["majority"].get(task.metric)
        runs = [run["metrics"][task.metric] for run in every if run["training_seed"] == seed]
    if not runs:
        raise DataError(f"{path} has no training seed {seed}: score the model again")
    values = 100 * np.array(runs)
    synthetic = settings.data.source == "synthetic"
    dataset = task.title + (" (synthetic)" if synthetic else "")
    tag = TAGS.get(task.kind, "text-classification")
    package = metadata("muxplm")
    # The authors' weights have a licence of their own.
    licence = None if settings.released else package["License-Expression"]
    kind = f"{'synthetic-' if synthetic else ''}{task_name}"
    data = ModelCardData(
        license=licence and licence.lower(),
        language="en",
        library_name="onnx" if onnx else "transformers",
        pipeline_tag=tag,
        tags=["muxplm", "arxiv:2302.12441"] + (["synthetic-data"] if synthetic else []),
        model_name=name,
        eval_results=[EvalResult(tag, kind, dataset, task.metric, round(float(values.mean()), 2))],
    )
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True
    ).get_template("card.md.jinja")
    return template.render(
        card_data=data.to_yaml(),
        model=name,
        task=task,
        dataset=dataset,
        variant=variant,
        family=variant.recipe,
        n=variant.n,
        scale=captions.scale(settings, [variant]),
        metric=task.metric.replace("_", " "),
        rows=scores["rows"],
        mean=f"{values.mean():.1f}",
        std=f"{values.std():.1f}",
        best=f"{values.max():.1f}",
        majority=majority,
        seed=seed,
        seeds=len(values),
        source=SOURCES.get(settings.data.source),
        licence=licence,
        released=settings.released and experiments.released_id(variant),
        pipeline_tag=tag,
        limit=limit,
        folder=folder,
        onnx=onnx,
        example=EXAMPLES[len(task.columns)],
        version=version("muxplm"),
        repository=_repository(package),
        libraries=" ".join(f"{library}=={_release(library)}" for library in LIBRARIES),
        **_speed(settings, name),
    )


def _release(library: str) -> str:
    """A library's version as a package index has it: torch's has "+cpu" behind it here and there."""
    return version(library).split("+")[0]


def _repository(package) -> str | None:
    """Where the code lies, if the package says so."""
    urls = dict(line.split(", ", 1) for line in package.get_all("Project-URL") or ())
    return urls.get("Repository")


def _speed(settings: Settings, name: str) -> dict:
    """The speed-up, if a run has measured it."""
    for timed in experiments.TIMED:
        path = Path(settings.paths.throughput(timed))
        if path.exists() and name in (content := read_json(path))["models"]:
            ratio = content["models"][name]["speedup"]["median"]
            if ratio is None:  # no plain model was timed beside it
                break
            keys = ("reference", "device")
            return {key: content[key] for key in keys} | {"speedup": f"{ratio:.1f}"}
    return {"speedup": None}
