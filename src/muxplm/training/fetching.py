"""The authors' checkpoints in the place of training: from the Hub or a mirror into the results."""

from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

from muxplm import recipes, trained
from muxplm.files import DataError
from muxplm.models.modeling import MuxForTokenRetrieval
from muxplm.models.released.conversion import converted, copy_tokenizer, download
from muxplm.released_checkpoints import published_id, released_id

PLAIN = {"mlm": AutoModelForMaskedLM, "rtd": AutoModelForPreTraining}


def fetch(settings, name: str, task: str | None = None):
    """Writes the variant's pre-trained model, or the one fine-tuned on `task`, where the DAG wants it.

    DataError if the config asks for no released checkpoints, or if this one cannot be had.
    """
    if settings.released is None:
        raise DataError("this config trains its own models: lay config/released.yaml over it")
    variant, paths = settings.variants[name], settings.paths
    hub_id = released_id(variant)
    path, recipe = paths.checkpoint("pretrain", name), recipes.released(settings, name)
    if task:
        recipe = recipes.published(settings, name, task)
        hub_id, path = published_id(variant, task), paths.published(name, task)
    if trained.adopt(path, recipe):
        return
    folder = locate(settings.released, hub_id)
    if variant.recipe.multiplexed:
        model = converted(folder)
        if not task and not variant.recipe.objective:
            model = retrieval_model(model, folder)
    else:
        model = plain(folder, PLAIN[variant.recipe.objective])
    record = {"stage": "released", "model": name, "hub_id": hub_id, "revision": folder.name}
    trained.save(model, path, recipe, record, extras=partial(copy_tokenizer, folder))


def retrieval_model(model, folder):
    """`model` with its retrieval head alone: T-MUX's is pre-trained beside a classifier without use."""
    found = MuxForTokenRetrieval(model.config)
    kept = {k: v for k, v in model.state_dict().items() if k.startswith(("model.", "lm_head."))}
    try:
        found.load_state_dict(kept, strict=True)
    except RuntimeError:
        raise DataError(f"{folder} has no retrieval head, so T-MUX was not primed in it") from None
    return found


def locate(released, hub_id: str) -> Path:
    """The folder of a checkpoint: in the mirror, or downloaded."""
    if not released.mirror:
        return download(hub_id, released.revisions.get(hub_id))
    folder = Path(released.mirror, hub_id)
    if not folder.is_dir():
        raise DataError(f"{folder} is missing: the mirror of released.mirror lacks this model")
    return folder


def plain(folder: Path, model_class):
    """A baseline, which is an ordinary transformers model, in float32."""
    try:
        return model_class.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{folder} cannot be loaded ({reason})") from None
