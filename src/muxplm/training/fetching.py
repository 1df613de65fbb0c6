"""The authors' checkpoints in the place of training: from the Hub or a mirror into the results."""

from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

from muxplm.files import DataError, atomic_folder, write_json
from muxplm.models.modeling import MuxForTokenRetrieval
from muxplm.models.released.conversion import converted, download, write
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
    path = paths.checkpoint("pretrain", name)
    if task:
        hub_id, path = published_id(variant, task), paths.published(name, task)
    folder = locate(settings.released, hub_id)
    with atomic_folder(Path(path).parent) as draft:
        if variant.recipe.multiplexed:
            model = converted(folder)
            if not task and not variant.recipe.objective:
                model = retrieval_model(model, folder)
            write(model, folder, draft)
        else:
            resave(folder, PLAIN[variant.recipe.objective], draft)
        record = {"stage": "released", "model": name, "hub_id": hub_id}
        write_json(draft / "run.json", record | {"revision": folder.name})


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
        return download(hub_id, released.revisions.get(hub_id, released.revision))
    folder = Path(released.mirror, hub_id)
    if not folder.is_dir():
        raise DataError(f"{folder} is missing: the mirror of released.mirror lacks this model")
    return folder


def resave(folder: Path, model_class, destination: Path):
    """A baseline, which is an ordinary transformers model, as safetensors in float32."""
    try:
        model = model_class.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{folder} cannot be loaded ({reason})") from None
    model.save_pretrained(destination)
