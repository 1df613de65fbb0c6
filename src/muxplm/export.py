"""`muxplm export`: a fine-tuned model as a folder, for the Hub or for another engine.

With it go its tokenizer, its card and, for torch, its code.
"""

import importlib.util
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import transformers
from transformers import AutoTokenizer

from muxplm.batching import token_limit
from muxplm.config import DEFAULT, load, validate
from muxplm.files import (
    DataError,
    as_written,
    atomic_folder,
    made,
    read_json,
    sha256,
    write_json,
    write_text,
)
from muxplm.mistakes import ConfigError
from muxplm.models.build import load_config
from muxplm.models.configuration import MuxConfig, PrunedBertConfig
from muxplm.reporting.card import card
from muxplm.settings import Settings
from muxplm.tracing import replace_weights

AUTO_CLASSES = (
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForPreTraining",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
)
IMPORT = re.compile(r"^([ \t]*)from (muxplm[\w.]*) import ", re.MULTILINE)


def settings_of(results: Path | None, config) -> Settings:
    """The settings of the last run in a results folder, wherever that lies now, or of `config`."""
    if results is None:
        if not DEFAULT.exists():
            raise ConfigError(f"{DEFAULT} is not here: name a run with --results FOLDER")
        return load(config)
    runs = sorted((results / "config").glob("*.json"), key=lambda file: file.stat().st_mtime)
    if not runs:
        raise DataError(f"{results}/config holds no settings: name the results folder of a run")
    with as_written(runs[-1]):
        written = read_json(runs[-1]) | {"results": str(results)}
    return validate(written)


def export(settings: Settings, name: str, task: str, destination: Path, onnx: str | None = None):
    """Writes `destination`: the first training seed's model, its tokenizer and README.md.

    onnx: "fp32" or "int8", for an ONNX file of this precision; None for the weights themselves and, of
    a multiplexed or pruned model, its own code, for who loads it with `trust_remote_code=True`.
    DataError if `destination` exists, if the model was not fine-tuned and scored, or if the variant is
    another one served in another precision.
    """
    variant = settings.variants[name]
    if variant.precision:
        trained = variant.trained.name
        raise DataError(f"{name} is {trained} in {variant.precision}: export {trained}")
    if destination.exists():
        raise DataError(f"{destination} exists: delete it or name another folder")
    seed = settings.training_seeds[0]
    weights = Path(settings.paths.finetuned(name, task, seed))
    tokenizer = Path(settings.paths.tokenizer)
    for path in (weights, tokenizer):
        if not path.exists():
            raise DataError(f"{path} is missing: make it with `snakemake --cores all {path}`")
    with as_written(weights):
        checksum = read_json(weights)["sha256"]
    file = made(weights.with_name("model.safetensors"))
    if not file.is_file() or sha256(file) != checksum:
        raise DataError(f"{weights.parent} is not what was trained: delete it and run again")
    config = load_config(weights.parent)
    limit = token_limit(config)
    content = card(settings, name, task, seed, limit, destination.name, onnx)
    with atomic_folder(destination) as draft:
        for file in set(weights.parent.iterdir()) - {weights}:  # done.json is the workflow's
            shutil.copy(file, draft)
        known = AutoTokenizer.from_pretrained(tokenizer.parent)
        known.model_max_length = limit or known.model_max_length  # what `truncation=True` cuts to
        known.save_pretrained(draft)
        if onnx:
            replace_weights(draft, onnx)
        elif isinstance(config, MuxConfig | PrunedBertConfig):
            write_code(draft, type(config))
        write_text(draft / "README.md", content)


def write_code(folder: Path, config_class=MuxConfig):
    """Puts muxplm's models into `folder`, where its config.json tells the Auto classes to look."""
    classes = {"AutoConfig": config_class}
    for name in AUTO_CLASSES:
        registered = getattr(transformers, name)._model_mapping
        if config_class in registered:
            classes[name] = registered[config_class]
    files = {}
    for model_class in classes.values():
        _collect(model_class.__module__, files)
    for name, source in files.items():
        write_text(folder / f"{name}.py", source)
    auto_map = {name: f"{_flat(c.__module__)}.{c.__name__}" for name, c in classes.items()}
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"auto_map": auto_map})


def _collect(module: str, files: dict[str, str]):
    """Adds a module's source, and that of each module of muxplm that it imports from, to `files`.

    transformers takes such modules from one folder without sub-folders, by relative imports.
    """
    if _flat(module) in files:
        return
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
    origin = (
        f"# {module} of muxplm {version('muxplm')}, Apache-2.0. `muxplm export` wrote this file.\n"
    )
    relative = IMPORT.sub(lambda found: f"{found[1]}from .{_flat(found[2])} import ", source)
    files[_flat(module)] = origin + relative
    for _, needed in IMPORT.findall(source):
        _collect(needed, files)


def _flat(module: str) -> str:
    """muxplm.models.heads -> models_heads"""
    return module.removeprefix("muxplm.").replace(".", "_")
