"""Models: files that are damaged, tensors that lack, do not fit or are no numbers, other configs."""

import json
import math

import torch
from safetensors.torch import load_file, save_file

from malformed import Case
from malformed.configs import written
from malformed.data import file_damages
from malformed.world import MODEL, PLAIN

CELL = f"results/finetune/{MODEL}/sst2/seed1"
PRIMED, PRETRAINED = f"results/prime/{MODEL}", f"results/pretrain/{MODEL}"
# What reads the weights of a folder.
READERS = {
    "answers": ["predict answers --input in.csv --output out.csv"],
    "tags": ["predict tags --input in.csv --output out.csv"],
    CELL: [f"score {MODEL} --tasks sst2", f"compose {MODEL} --tasks sst2"],
    f"results/finetune/{PLAIN}/pos/seed1": [f"score {PLAIN} --tasks pos"],
    PRIMED: [f"pretrain {MODEL} --config other.json"],
    PRETRAINED: [f"finetune {MODEL} --tasks sst2 --config other.json", f"muxology {MODEL}"],
    f"results/pretrain/{PLAIN}": [f"finetune {PLAIN} --tasks pos --config other.json"],
}
# Of a training, so that what is there is not adopted.
OTHER = {"pretrain": {"learning_rate": 0.002}, "finetune": {"learning_rate": 0.002}}


def both(*damages):
    def damage(folder):
        for each in damages:
            each(folder)

    return damage


def tensors(file, edit):
    """A damage: the file's tensors, a dict, after `edit`."""

    def damage(folder):
        found = load_file(folder / file)
        edit(found)
        save_file({k: v.contiguous() for k, v in found.items()}, folder / file)

    return damage


def values(file, **changes):
    def damage(folder):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return damage


def first(found, words):
    return next(name for name in sorted(found) if words in name)


def to_nan(words):
    return lambda found: found[first(found, words)].view(-1)[0].fill_(math.nan)


def to_infinity(words):
    return lambda found: found[first(found, words)].view(-1)[0].fill_(math.inf)


def without(words):
    return lambda found: [found.pop(name) for name in list(found) if words in name]


def wider(words):
    def edit(found):
        name = first(found, words)
        found[name] = torch.cat([found[name], found[name]])

    return edit


PARTS = ("word_embeddings", "layer.0.attention.self.query.weight", "layer.0.output.LayerNorm.bias")
EDITS = {
    **{f"without {part}": without(part) for part in ("", *PARTS)},
    **{f"NaN in {part}": to_nan(part) for part in PARTS},
    **{f"infinity in {part}": to_infinity(part) for part in PARTS[1:2]},
    **{f"wider {part}": wider(part) for part in PARTS},
}
CONFIGS = [
    {"model_type": "nonsense"},
    {"model_type": None},
    {"model_type": 3},
    {"num_instances": 0},
    {"num_instances": "2"},
    {"num_instances": 3},
    {"multiplexer": "nonsense"},
    {"demultiplexer": "nonsense"},
    {"demultiplexer_layers": 7},
    {"dialect": "other"},
    {"encoder": None},
    {"encoder": []},
    {"encoder": {}},
    {"encoder": {"model_type": "nonsense"}},
]
PLAIN_CONFIGS = [
    {"hidden_size": 24},
    {"hidden_size": 0},
    {"hidden_size": "16"},
    {"num_attention_heads": 5},
    {"num_attention_heads": 0},
    {"num_hidden_layers": 2},
    {"num_hidden_layers": -1},
    {"hidden_act": "nonsense"},
    {"vocab_size": 10},
    {"model_type": "nonsense"},
]


def cases():
    other = written("other.json", OTHER)
    for folder, commands in READERS.items():
        weights, config = f"{folder}/model.safetensors", f"{folder}/config.json"
        damages = {f"weights {k}": v for k, v in file_damages(weights).items()}
        damages |= {f"config {k}": v for k, v in file_damages(config).items()}
        damages |= {what: tensors(weights, edit) for what, edit in EDITS.items()}
        if folder not in (PRIMED, PRETRAINED, f"results/pretrain/{PLAIN}"):
            for edit in (without, to_nan, wider):
                damages[f"head {edit.__name__}"] = tensors(weights, edit("classifier"))
        for change in PLAIN_CONFIGS if f"/{PLAIN}" in folder else CONFIGS:
            damages[f"config {change}"] = values(config, **change)
        for command in commands:
            for what, damage in damages.items():
                title = f"{command.split()[0]} {folder}: {what}"
                yield Case(title, command, (folder,), both(other, damage))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        for what, damage in file_damages(f"answers/{name}").items():
            if name == "tokenizer_config.json" and what in ("missing", "a folder"):
                continue  # the tokenizer is whole without it
            yield Case(f"{name} {what}", READERS["answers"][0], ("answers",), damage)
    yield from _left_by_steps(other)


def _left_by_steps(other):
    """What earlier steps of the workflow wrote, damaged between them."""
    trains = f"pretrain {PLAIN} --config other.json"
    scores, tunes = (
        f"score {PLAIN} --tasks pos",
        f"finetune {PLAIN} --tasks pos --config other.json",
    )
    for file, commands in {
        "results/data/tokenizer/tokenizer.json": ("blocks", trains, tunes, scores),
        "results/data/blocks/manifest.json": (trains, f"muxology {PLAIN}"),
        "results/data/blocks/train.bin": (trains,),
        "results/data/blocks/validation.bin": (trains,),
        "results/data/blocks/muxology.bin": (f"muxology {PLAIN}",),
        "results/data/tasks/pos/train.parquet": (tunes, scores),
        "results/data/tasks/pos/validation.parquet": (scores,),
        "results/data/tasks/pos/validation.json": (scores,),
    }.items():
        for what, damage in file_damages(file).items():
            for command in commands:
                folder = file.rpartition("/")[0]
                title = f"{command.split()[0]} after {file} {what}"
                yield Case(title, command, (folder,), both(other, damage))
    for content in ([], {}, 3, {"blocks": []}, {"blocks": {"train": -1}, "block_length": 16}):
        damage = both(other, written("results/data/blocks/manifest.json", content))
        yield Case(f"blocks' manifest {content}", trains, ("results/data/blocks",), damage)
    for content in ([], {}, 3, {"rows": 3}, {"rows": {}}):
        damage = written("results/data/tasks/pos/validation.json", content)
        yield Case(f"rows' manifest {content}", scores, ("results/data/tasks/pos",), damage)
