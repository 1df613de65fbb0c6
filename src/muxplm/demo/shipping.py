"""A primed model in half the bytes, with tokenizer and card: what `muxplm demo` ships is made so."""

from importlib.metadata import metadata
from pathlib import Path

import jinja2
from huggingface_hub import ModelCardData

from muxplm.data.prepare import read_tokenizer
from muxplm.demo.reading import VARIANT, primed_of
from muxplm.files import DataError, read_json, write_text
from muxplm.mistakes import ConfigError
from muxplm.models.build import load_model
from muxplm.settings import Settings


def ship(settings: Settings, folder: Path):
    """Writes a run's primed model into `folder`, in float16.

    ConfigError or DataError if the run has none, or if something else is in the folder.
    """
    if VARIANT not in settings.variants:
        raise ConfigError(f"config: families, sizes or instances leave out {VARIANT}")
    primed = primed_of(settings)
    if primed is None:
        path = settings.paths.checkpoint("prime", VARIANT)
        raise DataError(f"{path} is missing: make it with `snakemake --cores all {path}`")
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise DataError(f"{folder} holds something else than a model: name another folder")
    model = load_model("retrieval", primed)
    content = card(settings, model.config, read_json(primed / "run.json"))
    model.half().save_pretrained(folder)
    read_tokenizer(settings).save_pretrained(folder)
    write_text(folder / "README.md", content)


def card(settings: Settings, config, run: dict) -> str:
    """run: of the priming."""
    licence = metadata("muxplm")["License-Expression"]
    data = ModelCardData(
        license=licence.lower(),
        language="en",
        library_name="transformers",
        tags=["muxplm", "arxiv:2302.12441"],
        model_name=VARIANT,
    )
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True
    ).get_template("card.md.jinja")
    content = template.render(
        card_data=data.to_yaml(),
        model=VARIANT,
        licence=licence,
        n=config.num_instances,
        limit=config.max_tokens,
        config=config,
        source=settings.data.source,
        synthetic=settings.data.source == "synthetic" and settings.data.synthetic,
        training=settings.training("prime", VARIANT),
        accuracy=f"{100 * run['validation']['accuracy']:.2f}",
    )
    return content + "\n"
