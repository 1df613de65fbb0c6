"""The authors' checkpoints as muxplm models: `muxplm convert SOURCE DESTINATION`.

A checkpoint becomes a model of the released dialect (docs/dialects.md) by renaming.
"""

import re
import shutil
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file

from muxplm.files import DataError, atomic_folder, read_json
from muxplm.models.configuration import MuxConfig
from muxplm.models.released import names
from muxplm.models.released.their_config import read_config

# --- Files ----------------------------------------------------------------------------------------


def convert(source: str, destination: str, revision: str | None = None):
    """Writes `destination` (config.json, model.safetensors and the tokenizer's files, if any).

    source: a folder in the authors' layout, or an id of the Hub, which needs a `revision` (a commit).
    Weights are written in float32. Raises DataError, and writes nothing, for a checkpoint that does not
    fit its config to the last tensor.
    """
    if Path(destination).exists():
        raise DataError(f"{destination} exists: delete it or name another folder")
    folder = Path(source) if Path(source).is_dir() else download(source, revision)
    model = converted(folder)
    with atomic_folder(destination) as draft:
        model.save_pretrained(draft)
        copy_tokenizer(folder, draft)
    print(f"{source} -> {destination}: {type(model).__name__}, N = {model.config.num_instances}")


def converted(folder: Path):
    """The model of a folder in the authors' layout, with float32 weights."""
    values, weights = read_json(folder / "config.json"), read_weights(folder)
    try:
        model_class, config = read_config(values, weights, folder)
        model = model_class(config)
    except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{folder}/config.json describes no model ({reason})") from None
    model.load_state_dict(renamed(weights, model, config, folder), strict=True)
    return model


def copy_tokenizer(folder: Path, destination: Path):
    """The tokenizer's files, if `folder` has them."""
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "merges.txt"):
        if (folder / name).exists():
            shutil.copy(folder / name, destination)


def download(name: str, revision: str | None) -> Path:
    """The folder to which a repository of the Hub was downloaded, named after its commit."""
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise DataError(f"{name} is no folder; give one, or an id of the Hub such as owner/model")
    if not revision:
        raise DataError(f"{name} is not pinned: give --revision with a commit of its repository")
    files = ["config.json", "pytorch_model.bin", "model.safetensors", "tokenizer*", "*.txt"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except (OSError, ValueError) as error:  # its own errors, and those of the network, are OSErrors
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{name} at {revision} cannot be downloaded: {reason}") from None


def read_weights(folder: Path) -> dict:
    """The checkpoint's tensors, in float32. Nothing in a pickle but tensors is ever loaded."""
    found = [p for n in ("model.safetensors", "pytorch_model.bin") if (p := folder / n).exists()]
    if not found:
        nested = folder / "discriminator"
        hint = f"; its model lies in {nested}" if nested.is_dir() else ""
        raise DataError(f"{folder} has neither model.safetensors nor pytorch_model.bin{hint}")
    try:
        if found[0].suffix == ".safetensors":
            weights = load_file(found[0])
        else:
            weights = torch.load(found[0], map_location="cpu", weights_only=True)
    except Exception as error:  # the bytes of a damaged pickle may raise anything
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{found[0]} holds code or is damaged, and is not converted ({reason})"
        ) from None
    if not isinstance(weights, dict) or not all(map(_is_plain, weights.items())):
        raise DataError(f"{found[0]} holds something other than named tensors: it is not converted")
    for key, tensor in weights.items():
        if not tensor.isfinite().all():
            raise DataError(f"{found[0]}: tensor {key} holds what is no number: fetch it again")
    if any(key.startswith("discriminator.") for key in weights):
        raise DataError(f"{found[0]} holds a generator too: convert {folder}/discriminator instead")
    return {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}


def _is_plain(entry) -> bool:
    """Of a name and its tensor: dense, on a device, real."""
    key, tensor = entry
    return (
        isinstance(key, str)
        and torch.is_tensor(tensor)
        and tensor.layout == torch.strided
        and not (tensor.is_quantized or tensor.is_complex() or tensor.is_meta)
    )


# --- Tensors --------------------------------------------------------------------------------------


def renamed(weights: dict, model, config: MuxConfig, folder) -> dict:
    """Their tensors under our names, all of those that `model` has and no other.

    DataError if a tensor is missing, unexpected, of another shape, or unequal to its own alias.
    """
    backbone = config.encoder.model_type
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    table, spare = names.tables(config)
    found = {"model.prefix_ids": model.model.prefix_ids} if config.prefix_length else {}
    words = f"{backbone}.embeddings.word_embeddings.weight"
    for key, tensor in weights.items():
        target = _lookup(key, [*table, *spare])
        if key == f"{backbone}.{names.NEEDLESS}" or _is_alias(key, weights, folder):
            continue
        if target is None:
            raise DataError(f"{folder}: tensor {key} is unexpected in {_title(model, config)}")
        if target == "lm_head.weight" and backbone == "bert" and words in weights:
            _check_equal(key, words, weights, folder)  # tied, and kept once
            continue
        if not hasattr(model, "lm_head") and _lookup(key, spare):
            continue
        if not tensor.is_floating_point():
            raise DataError(f"{folder}: tensor {key} holds {tensor.dtype}, not real numbers")
        parts = target.split("|")
        halves = tensor.chunk(len(parts), dim=-1) if len(parts) > 1 else [tensor]
        for name, part in zip(parts, halves, strict=True):
            if name not in expected:
                raise DataError(f"{folder}: tensor {key} is unexpected in {_title(model, config)}")
            if part.shape != expected[name]:
                raise DataError(
                    f"{folder}: tensor {key} has shape {tuple(tensor.shape)}, which contradicts "
                    f"config.json: {tuple(expected[name])} would fit for {name}"
                )
            found[name] = part.contiguous()
    if missing := sorted(set(expected) - set(found)):
        key = _theirs(missing[0], [*table, *spare])
        raise DataError(f"{folder}: tensor {key} is missing ({len(missing)} in all)")
    return found


def _lookup(key: str, table) -> str | None:
    """The other name of `key`; None if the table has none."""
    for source, target, offset in table:
        pattern = re.escape(source).replace(r"\{k\}", r"(?P<k>\d+)").replace(r"\*", "(?P<rest>.+)")
        if match := re.fullmatch(pattern, key):
            groups = match.groupdict()
            number = str(int(groups["k"]) + offset) if "k" in groups else ""
            return target.replace("{k}", number).replace("*", groups.get("rest", ""))
    return None


def _theirs(name: str, table) -> str:
    """The tensor of theirs that holds `name` of ours."""
    back = [(part, key, -offset) for key, ours, offset in table for part in ours.split("|")]
    return _lookup(name, back) or name


def _is_alias(key: str, weights: dict, folder) -> bool:
    other = _lookup(key, names.ALIASES)
    if other not in weights:
        return False
    _check_equal(key, other, weights, folder)
    return True


def _check_equal(key, other, weights, folder):
    if not torch.equal(weights[key], weights[other]):
        raise DataError(f"{folder}: tensors {key} and {other} should be the same and are not")


def _title(model, config) -> str:
    return f"a {config.demultiplexer} {type(model).__name__} over {config.encoder.model_type}"
