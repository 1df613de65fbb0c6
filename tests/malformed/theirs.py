"""Checkpoints in the authors' layout that `muxplm convert` has to refuse."""

import json
import random

import torch

from malformed import Case
from malformed.configs import written
from malformed.data import a_folder, cut, gone
from malformed.weights import both

COMMAND = "convert theirs ours"
WEIGHTS, CONFIG = "theirs/pytorch_model.bin", "theirs/config.json"
WRONG = ["words", "", -1, 0, 1.5, None, True, [], {}, 10**12, float("nan")]
KEYS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_instances"),
    *("intermediate_size", "max_position_embeddings", "type_vocab_size", "hidden_act"),
    *("muxing_variant", "demuxing_variant", "architectures", "layer_norm_eps"),
    *("hidden_dropout_prob", "retrieval_loss_coeff", "model_type", "pad_token_id"),
)
# What transformers takes, or the config may leave out.
FINE = {
    *(("layer_norm_eps", value) for value in (0, None, 1.5)),
    *(("hidden_dropout_prob", value) for value in (0, None)),
    *(("retrieval_loss_coeff", value) for value in (0, 1.5, 10**12)),
    *((key, None) for key in ("model_type", "pad_token_id", "hidden_act", "type_vocab_size")),
    *((key, None) for key in ("intermediate_size", "max_position_embeddings")),
    ("pad_token_id", 0),
}


def pickled(edit):
    def damage(folder):
        weights = torch.load(folder / WEIGHTS, weights_only=True)
        made = edit(weights)
        torch.save(weights if made is None else made, folder / WEIGHTS)

    return damage


def setting(key, value):
    def damage(folder):
        content = json.loads((folder / CONFIG).read_text())
        if value is KEYS:
            content.pop(key)
        else:
            content[key] = value
        (folder / CONFIG).write_text(json.dumps(content))

    return damage


def put(name, value):
    return lambda weights: weights.__setitem__(name, value)


def cases():
    for key in KEYS:
        for wrong in WRONG:
            if not any(key == k and wrong == v and type(wrong) is type(v) for k, v in FINE):
                yield Case(f"{key} = {wrong!r}", COMMAND, ("theirs",), setting(key, wrong))
    required = (
        "vocab_size",
        "hidden_size",
        "num_attention_heads",
        "num_instances",
        "architectures",
    )
    for key in (*required, "muxing_variant", "demuxing_variant"):
        yield Case(f"without {key}", COMMAND, (key,), setting(key, KEYS))
    for content in ("", "[]", "3", "{}", "{", "null", b"\xff", '{"hidden_size": NaN}'):
        yield Case(f"config {content!r}", COMMAND, ("theirs",), written(CONFIG, content))
    for file in (CONFIG, WEIGHTS):
        yield Case(f"no {file}", COMMAND, ("theirs",), gone(file))
        yield Case(f"{file} a folder", COMMAND, ("theirs",), a_folder(file))
    rng = random.Random(0)
    for share in [0, *(rng.random() for _ in range(12))]:
        yield Case(f"weights cut at {share:.2f}", COMMAND, ("theirs",), cut(WEIGHTS, share))
    for i in range(6):
        damage = written(WEIGHTS, rng.randbytes(rng.randint(1, 500)))
        yield Case(f"weights garbage {i}", COMMAND, ("theirs",), damage)
    words, keys = "bert.embeddings.word_embeddings.weight", "instance_embedding"
    name = "bert.encoder.layer.0.output.dense.weight"
    edits = {
        "a list": lambda weights: [1, 2],
        "a tensor": lambda weights: torch.ones(3),
        "numbers": lambda weights: {"a": 3},
        "nothing": lambda weights: weights.clear(),
        "an integer key": put(3, torch.ones(2)),
        "a sparse tensor": put(name, torch.ones(16, 32).to_sparse()),
        "integers": put(name, torch.ones(16, 32, dtype=torch.long)),
        "complex": put(name, torch.ones(16, 32, dtype=torch.complex64)),
        "on meta": put(name, torch.ones(16, 32, device="meta")),
        "a scalar": put(name, torch.tensor(1.0)),
        "NaN": lambda weights: weights[name].view(-1)[0].fill_(float("nan")),
        "infinity": lambda weights: weights[keys].view(-1)[0].fill_(float("inf")),
        "empty": put(name, torch.ones(0)),
        "no words": lambda weights: weights.__delitem__(words),
        "a stranger": put("more", torch.ones(3)),
    }
    for what, edit in edits.items():
        yield Case(f"tensors: {what}", COMMAND, ("theirs",), pickled(edit))
    for what, damage, command, named in (
        ("destination there", written("ours/mine.txt", "mine"), COMMAND, "ours"),
        ("no source", written("x", ""), "convert nowhere ours", "nowhere"),
        ("a file", written("x", ""), "convert in.csv ours", "in.csv"),
        ("no revision", written("x", ""), "convert owner/model ours", "--revision"),
        ("no destination", written("x", ""), "convert theirs", "destination"),
        ("our own model", written("x", ""), "convert answers ours", "answers"),
        ("below a file", written("x", ""), "convert theirs in.csv/ours", "in.csv"),
        (
            "a discriminator",
            both(gone(WEIGHTS), lambda f: (f / "theirs/discriminator").mkdir()),
            COMMAND,
            "discriminator",
        ),
    ):
        yield Case(what, command, (named,), damage)
