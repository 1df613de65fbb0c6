"""The authors' checkpoints after conversion, against an oracle that reads the checkpoint itself."""

import json
import math
import re

import pytest
import torch
import transformers
from conftest import make_config as own_config
from safetensors.torch import save_file

import muxplm  # noqa: F401  (registers the model type)
from muxplm.files import DataError
from muxplm.models.build import load_config, load_model
from muxplm.models.modeling import MuxForTokenRetrieval
from muxplm.models.released import conversion
from muxplm.models.released.conversion import convert
from muxplm.models.released.dialect import finetuning_changes

SEQUENCE, TOKEN = "SequenceClassification", "TokenClassification"
MLM, PRETRAINING = "MaskedLM", "PreTraining"
LABELS = 4
BLOCKED = torch.finfo(torch.float32).min


# --- The oracle: the authors' formulas over their tensors `w` and config `c`, no code of the package ---
# One group at a time: n rows of ids -> h (length, hidden) -> n rows of logits.


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(c, w, name, x):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + c["layer_norm_eps"])
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def kind(c):
    return c["architectures"][0].split("For")[1]


def layer(c, w, name, x, blocked=0.0):
    """A post-norm Transformer layer over x (length, width); `blocked` is added to each row of scores."""
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    query, key, value = (linear(w, part, x) for part in parts)
    size, read = x.shape[-1] // c["num_attention_heads"], []
    for start in range(0, x.shape[-1], size):
        head = slice(start, start + size)
        scores = query[:, head] @ key[:, head].T / math.sqrt(size) + blocked
        read.append(torch.softmax(scores, -1) @ value[:, head])
    attended = linear(w, f"{name}.attention.output.dense", torch.cat(read, -1))
    x = norm(c, w, f"{name}.attention.output.LayerNorm", attended + x)
    inner = gelu(linear(w, f"{name}.intermediate.dense", x))
    return norm(c, w, f"{name}.output.LayerNorm", linear(w, f"{name}.output.dense", inner) + x)


def embed(c, w, words, positions):
    table = f"{c['model_type']}.embeddings"
    places = w[f"{table}.position_embeddings.weight"][positions]
    types = w[f"{table}.token_type_embeddings.weight"][0]
    return norm(c, w, f"{table}.LayerNorm", words + places + types)


def embed_ids(c, w, row):
    """RoBERTa counts positions from pad + 1 on, over what is no padding; padding has position pad."""
    positions = torch.arange(len(row))
    if c["model_type"] == "roberta":
        real = row != c["pad_token_id"]
        positions = c["pad_token_id"] + real.cumsum(0) * real
    return embed(c, w, w[f"{c['model_type']}.embeddings.word_embeddings.weight"][row], positions)


def prepared(c, row, instance):
    """Instance `instance`'s row of ids with what the authors' code puts at its front."""
    roberta = c["model_type"] == "roberta"
    first = 49923 if roberta else 101
    if c["demuxing_variant"] == "index":
        own = (c["vocab_size"] if roberta else 680) - (instance + 2)
        prefix = [50000 if roberta else 680] * c["num_instances"] + [first]
        prefix[instance] = own
        return torch.tensor([*prefix, *row.tolist()])
    kept = c["model_type"] == "electra" and kind(c) in (SEQUENCE, TOKEN)
    return row if kept else torch.tensor([first, *row.tolist()[1:]])


def mixed(c, w, embedded, masks):
    """n x (length, width) -> (length, width)."""
    n, keys = c["num_instances"], w["instance_embedding"]
    if c["muxing_variant"] == "gaussian_hadamard":
        return sum(key * e for key, e in zip(keys, embedded, strict=True)) / n
    keyed = []
    for key, e, mask in zip(keys, embedded, masks, strict=True):
        keyed.append(key * (layer(c, w, "muxing_attention", e, (1 - mask) * BLOCKED) + e))
    out = []
    for place in range(len(embedded[0])):
        u = torch.stack([k[place] for k in keyed])  # (n, width): attention over the instances
        blocked = (1 - masks[:, place]) * BLOCKED if kind(c) == SEQUENCE else 0.0
        out.append((layer(c, w, "muxing_attention_2", u, blocked) + u).mean(0))
    return torch.stack(out)


def encoded(c, w, rows, masks):
    """The encoder sees no mask, and embeds the mixture once more."""
    rows = [prepared(c, row, i) for i, row in enumerate(rows)]
    m = mixed(c, w, [embed_ids(c, w, row) for row in rows], masks)
    offset = c["pad_token_id"] + 1 if c["model_type"] == "roberta" else 0
    x = embed(c, w, m, range(offset, offset + len(m)))
    if "electra.embeddings_project.weight" in w:
        x = linear(w, "electra.embeddings_project", x)
    for k in range(c["num_hidden_layers"]):
        x = layer(c, w, f"{c['model_type']}.encoder.layer.{k}", x)
    return x


def depth(w):
    return sum(f"demux_module.dense_{k}.weight" in w for k in range(1, 10))


def beside(key, h):
    return torch.cat([key.expand(len(h), -1), h], -1)


def separated(c, w, h, i, part="demultiplexer"):
    """Instance i's states, for what `part` reads."""
    if c["demuxing_variant"] == "index":
        return norm(c, w, f"{part}.layer_norm", gelu(linear(w, f"{part}.dense", beside(h[i], h))))
    if c["demuxing_variant"] == "mlp":
        own = gelu(linear(w, f"{part}.demux_module.dense_{i}", h))
        return norm(c, w, f"{part}.demux_module.layer_norm_{i}", own)
    x = gelu(
        linear(w, "demux_module.dense_1", beside(w["demux_module.demux_instance_embedding"][i], h))
    )
    if part == "demultiplexer":  # no norms, the last layer unused
        for k in range(2, depth(w)):
            x = gelu(linear(w, f"demux_module.dense_{k}", x)) + x
        last = gelu(linear(w, f"{part}.pre_decoder", x))
        return norm(c, w, f"{part}.pre_decoder_layer_norm", last) + x
    bert = c["model_type"] == "bert"
    x = norm(c, w, "demux_module.layer_norm_1", x)
    for k in range(2, 3 if bert else depth(w) + 1):
        y = norm(
            c, w, f"demux_module.layer_norm_{k}", gelu(linear(w, f"demux_module.dense_{k}", x))
        )
        x = y if bert else y + x
    y = norm(c, w, f"{part}.pre_decoder_layer_norm", gelu(linear(w, f"{part}.pre_decoder", x)))
    return y if bert else y + x


def vocabulary(c, w, x):
    if c["demuxing_variant"] == "mlp":
        x = gelu(linear(w, "retrieval_head.dense_pre_vocab", x))
        x = norm(c, w, "retrieval_head.layer_norm_pre_vocab", x)
    return linear(w, "retrieval_head.decoder", x)


def classified(c, w, x):
    family, demux = c["model_type"], c["demuxing_variant"]
    if family == "roberta":
        if demux == "index" and kind(c) == TOKEN:
            return linear(w, "demultiplexer.decoder", x)
        x = gelu(linear(w, "demultiplexer.dense_before_out_proj", x))
        x = norm(c, w, "demultiplexer.layernorm_presoftmax", x) if demux == "mlp" else x
        return linear(w, "demultiplexer.out_proj", x)
    if kind(c) == PRETRAINING:
        x = gelu(linear(w, "discriminator_predictions.dense", x))
        return linear(w, "discriminator_predictions.dense_prediction", x)[:, 0]
    if family == "electra" and kind(c) == SEQUENCE:
        return linear(w, "classifier.out_proj", gelu(linear(w, "classifier.dense", x)))
    return linear(w, "classifier", x)


def oracle(c, w, ids, mask, retrieval=False):
    """Logits in float64, of a batch of a multiple of N rows, at the user's own positions."""
    w = {name: tensor.double() for name, tensor in w.items()}
    n, out, of_words = c["num_instances"], [], retrieval or kind(c) == MLM
    prefix = n + 1 if c["demuxing_variant"] == "index" else 0
    for start in range(0, len(ids), n):
        h = encoded(c, w, ids[start : start + n], mask[start : start + n])
        for i in range(n):
            x = separated(c, w, h, i, "retrieval_head" if of_words else "demultiplexer")
            logits = vocabulary(c, w, x) if of_words else classified(c, w, x)
            of_rows = kind(c) == SEQUENCE and not retrieval
            out.append(logits[n if prefix else 0] if of_rows else logits[prefix:])
    return torch.stack(out)


# --- Checkpoints in the authors' layout, of random numbers ----------------------------------------


# The epsilon is far from the usual ones, so that a layer norm with one of those is noticed.
COMMON = {
    **{"num_hidden_layers": 2, "intermediate_size": 24, "max_position_embeddings": 40},
    **{"hidden_act": "gelu", "layer_norm_eps": 1e-3, "initializer_range": 0.02},
    **{"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    **{"gaussian_hadamard_norm": 1, "learn_muxing": 0, "retrieval_percentage": 1.0},
    **{"task_loss_coeff": 1.0, "retrieval_loss_coeff": 0.0},
    **{"output_attentions": False, "output_hidden_states": False},
    "id2label": {str(k): f"LABEL_{k}" for k in range(LABELS)},
    "label2id": {f"LABEL_{k}": k for k in range(LABELS)},
}
BERT_SIZES = {"vocab_size": 720, "hidden_size": 16, "type_vocab_size": 2, "pad_token_id": 0}
# T-MUX uses ids beyond 50000, so all else is tiny.
TMUX_SIZES = {"vocab_size": 50270, "hidden_size": 8, "type_vocab_size": 1, "pad_token_id": 1}


def make_config(family="bert", head=SEQUENCE, demux="index_pos", n=2, depth=3, heads=2, **changes):
    return {
        "architectures": [f"Muxed{family.capitalize()}For{head}"],
        "model_type": family,
        "num_instances": n,
        "muxing_variant": "gaussian_hadamard",
        "demuxing_variant": demux,
        "num_hidden_demux_layers": depth,
        "num_attention_heads": heads,
        **COMMON,
        **(TMUX_SIZES if family == "roberta" else BERT_SIZES),
        **({"embedding_size": 16} if family == "electra" else {}),
        **changes,
    }


# Their tensors: `name:xy` is a linear layer from y to x, `name:x` a layer norm, `name=xy` a tensor.
# Sizes: e embeddings, h hidden, d twice that, f feed-forward, v words, p positions, t token types,
# n instances, l labels.
EMBEDDINGS = """embeddings.word_embeddings.weight=ve embeddings.position_embeddings.weight=pe
    embeddings.token_type_embeddings.weight=te embeddings.LayerNorm:e"""
LAYER = """attention.self.query:hh attention.self.key:hh attention.self.value:hh
    attention.output.dense:hh attention.output.LayerNorm:h intermediate.dense:fh output.dense:hf
    output.LayerNorm:h"""
RSA = """demux_module.demux_instance_embedding=nh demux_module.dense_1:hd demux_module.layer_norm_1:h
    demultiplexer.pre_decoder:hh demultiplexer.pre_decoder_layer_norm:h
    retrieval_head.pre_decoder:hh retrieval_head.pre_decoder_layer_norm:h"""
PREFIX = """demultiplexer.dense:hd demultiplexer.layer_norm:h
    retrieval_head.dense:hd retrieval_head.layer_norm:h"""
MLP = "retrieval_head.dense_pre_vocab:hh retrieval_head.layer_norm_pre_vocab:h"
DISCRIMINATOR = "discriminator_predictions.dense:hh discriminator_predictions.dense_prediction:1h"


def demultiplexer_of(c):
    if c["demuxing_variant"] == "index":
        return PREFIX
    if c["demuxing_variant"] == "mlp":
        parts = [f"{part}.demux_module" for part in ("demultiplexer", "retrieval_head")]
        own = [(part, i) for part in parts for i in range(c["num_instances"])]
        return " ".join([MLP, *(f"{part}.dense_{i}:hh {part}.layer_norm_{i}:h" for part, i in own)])
    deeper = range(2, c["num_hidden_demux_layers"] + 1)
    layers = [f"demux_module.dense_{k}:hh demux_module.layer_norm_{k}:h" for k in deeper]
    return " ".join([RSA, *layers])


def head_of(c):
    if c["model_type"] == "roberta":
        if c["demuxing_variant"] == "index" and kind(c) == TOKEN:
            return "demultiplexer.decoder:lh"
        last = "demultiplexer.dense_before_out_proj:hh demultiplexer.out_proj:lh"
        mlp = c["demuxing_variant"] == "mlp"
        return f"{last} demultiplexer.layernorm_presoftmax:h" if mlp else last
    if c["model_type"] == "electra" and kind(c) == SEQUENCE:
        return "classifier.dense:hh classifier.out_proj:lh"
    return {MLM: "", PRETRAINING: DISCRIMINATOR}.get(kind(c), "classifier:lh")


def shapes(c, names, start=""):
    h = c["hidden_size"]
    sizes = {"e": c.get("embedding_size", h), "h": h, "d": 2 * h, "f": c["intermediate_size"]}
    sizes |= {"v": c["vocab_size"], "p": c["max_position_embeddings"], "t": c["type_vocab_size"]}
    sizes |= {"n": c["num_instances"], "l": LABELS, "1": 1}
    found = {}
    for name, sign, letters in re.findall(r"(\S+)([:=])(\S+)", names):
        shape = [sizes[letter] for letter in letters]
        both = {f"{start}{name}.weight": shape, f"{start}{name}.bias": shape[:1]}
        found |= both if sign == ":" else {start + name: shape}
    return found


def all_shapes(c):
    backbone = f"{c['model_type']}."
    found = shapes(c, "instance_embedding=ne") | shapes(c, EMBEDDINGS, backbone)
    for k in range(c["num_hidden_layers"]):
        found |= shapes(c, LAYER, f"{backbone}encoder.layer.{k}.")
    if c["muxing_variant"] == "gaussian_attention_v2":
        found |= shapes(c, LAYER, "muxing_attention.") | shapes(c, LAYER, "muxing_attention_2.")
    if c.get("embedding_size", c["hidden_size"]) != c["hidden_size"]:
        found |= shapes(c, "embeddings_project:he", backbone)
    return found | shapes(c, f"{demultiplexer_of(c)} retrieval_head.decoder:vh {head_of(c)}")


def make_weights(c):
    """All tensors of a file, those included that it holds under two names."""
    generator, w = torch.Generator().manual_seed(0), {}
    for name, shape in all_shapes(c).items():
        std = 1.0 if name.endswith("instance_embedding") else 0.15
        w[name] = std * torch.randn(shape, generator=generator)
        if len(shape) == 1 and name.endswith(".weight"):
            w[name] += 1  # layer norms
    if c["model_type"] == "bert":
        w["retrieval_head.decoder.weight"] = w["bert.embeddings.word_embeddings.weight"]
    w["retrieval_head.bias"] = w["retrieval_head.decoder.bias"]
    if "demultiplexer.decoder.bias" in w:
        w["demultiplexer.bias"] = w["demultiplexer.decoder.bias"]
    for name in [name for name in w if name.startswith("demux_module.")]:
        w[f"demultiplexer.{name}"] = w[f"retrieval_head.{name}"] = w[name]
    w[f"{c['model_type']}.embeddings.position_ids"] = torch.arange(40)[None]
    return w


def write(folder, c, w, name="pytorch_model.bin"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(c))
    if name == "pytorch_model.bin":
        torch.save(w, folder / name)
    else:  # which may not hold a tensor twice
        save_file({key: tensor.clone() for key, tensor in w.items()}, folder / name)
    return folder / name


def load(folder, c, **options):
    auto = getattr(transformers, f"AutoModelFor{kind(c)}")
    return auto.from_pretrained(folder, **options).eval()


def converted(tmp_path, c, w, *name):
    write(tmp_path / "theirs", c, w, *name)
    convert(str(tmp_path / "theirs"), str(tmp_path / "ours"))
    return load(tmp_path / "ours", c)


def make_batch(c, rows=None):
    """Ids and mask. Rows have 3 to 10 of 12 tokens: some places are padding for some, some for all."""
    rows = rows or 2 * c["num_instances"]
    ids = torch.randint(200, 670, (rows, 12), generator=torch.Generator().manual_seed(rows))
    lengths = 3 + 5 * torch.arange(rows) % 8
    mask = (torch.arange(12) < lengths[:, None]).long()
    ids[mask == 0] = c["pad_token_id"]
    ids[0, 1] = c["pad_token_id"]  # within the text: RoBERTa does not count it
    return ids, mask


@torch.no_grad()
def logits(model, batch):
    return model(*batch).logits


def assert_same(found, expected):
    exact = found.dtype == torch.float64
    bound = {"rtol": 0, "atol": 1e-10 if exact else 1e-5}
    torch.testing.assert_close(found, expected, check_dtype=False, **bound)


# --- Parity ---------------------------------------------------------------------------------------

SIZES = [(2, 3, 4), (3, 2, 2), (5, 4, 1)]  # N, D, attention heads
BERT, ELECTRA = (SEQUENCE, TOKEN, MLM), (PRETRAINING, SEQUENCE, TOKEN)
CONTEXTUAL, NARROW = {"muxing_variant": "gaussian_attention_v2"}, {"embedding_size": 12}
TMUX = [("roberta", head, demux, {}) for head in (SEQUENCE, TOKEN) for demux in ("index", "mlp")]
KINDS = [("bert", head, demux, {}) for head in BERT for demux in ("index_pos", "index")]
KINDS += [("bert", head, "index_pos", CONTEXTUAL) for head in BERT]
KINDS += [("electra", head, "index_pos", extra) for head in ELECTRA for extra in ({}, NARROW)]
KINDS += TMUX


def name_of(values):
    plain = [v.values() if isinstance(v, dict) else [v] for v in values]
    return "-".join(str(v) for part in plain for v in part)


@pytest.mark.parametrize("size", SIZES, ids=name_of)
@pytest.mark.parametrize("which", KINDS, ids=name_of)
def test_a_converted_model_is_the_authors_formulas(which, size, tmp_path):
    *names, extra = which
    c = make_config(*names, *size, **extra)
    w, batch = make_weights(c), make_batch(c)
    ids = batch[0].clone()
    model, expected = converted(tmp_path, c, w), oracle(c, w, *batch)
    assert_same(logits(model, batch), expected)
    assert_same(logits(model.double(), batch), expected)
    assert torch.equal(batch[0], ids)  # the authors' code writes its [CLS] into the caller's ids


@pytest.mark.parametrize("size", SIZES, ids=name_of)
@pytest.mark.parametrize("which", [which for which in KINDS if which[1] == MLM], ids=name_of)
def test_masked_lm_scores_what_has_a_label(which, size, tmp_path):
    """A prefix pushes the last N + 1 tokens out of the row, and their labels with them."""
    *names, extra = which
    c = make_config(*names, *size, **extra)
    w, (ids, mask) = make_weights(c), make_batch(c)
    chosen = torch.rand(ids.shape, generator=torch.Generator().manual_seed(5)) < 0.25
    labels = torch.where(chosen, ids, -100)
    end = 12 - (c["num_instances"] + 1 if c["demuxing_variant"] == "index" else 0)
    assert end == 12 or (labels[:, end:] != -100).any()
    where = labels[:, :end] != -100
    expected = oracle(c, w, ids[:, :end], mask[:, :end])[where]
    own = torch.log_softmax(expected, -1).gather(1, labels[:, :end][where][:, None])
    model = converted(tmp_path, c, w)
    model.sparse_prediction = True
    with torch.no_grad():
        output = model(ids, mask, labels=labels)
    assert_same(output.logits, expected)
    assert_same(output.loss, -own.mean())


RETRIEVING = [which for which in KINDS if which[1] in (MLM, PRETRAINING)] + TMUX[:2]


@pytest.mark.parametrize("size", SIZES, ids=name_of)
@pytest.mark.parametrize("which", RETRIEVING, ids=name_of)
def test_the_retrieval_head_reads_every_instance(which, size, tmp_path):
    *names, extra = which
    c = make_config(*names, *size, retrieval_loss_coeff=0.1, task_loss_coeff=0.9, **extra)
    w, batch = make_weights(c), make_batch(c)
    converted(tmp_path, c, w)
    model = MuxForTokenRetrieval.from_pretrained(tmp_path / "ours").eval().double()
    assert_same(logits(model, batch), oracle(c, w, *batch, retrieval=True))


def test_the_retrieval_loss_keeps_its_share(tmp_path):
    c = make_config("electra", PRETRAINING, retrieval_loss_coeff=0.5, task_loss_coeff=1.5)
    assert converted(tmp_path, c, make_weights(c)).config.retrieval_weight == 0.25


@pytest.mark.parametrize("extra", [{}, CONTEXTUAL], ids=["hadamard", "contextual"])
def test_an_incomplete_group_is_completed_with_its_own_rows(extra, tmp_path):
    c = make_config(n=5, **extra)
    w, (ids, mask) = make_weights(c), make_batch(c, rows=7)
    filled = [0, 1, 2, 3, 4, 5, 6, 5, 6, 5]
    expected = oracle(c, w, ids[filled], mask[filled])[:7]
    assert_same(logits(converted(tmp_path, c, w), (ids, mask)), expected)


def test_outputs_depend_on_the_padding(tmp_path):
    """The authors' encoder attends to it."""
    c = make_config()
    w, batch = make_weights(c), make_batch(c)
    longer = [torch.nn.functional.pad(x, (0, 6)) for x in batch]
    model = converted(tmp_path, c, w)
    assert_same(logits(model, longer), oracle(c, w, *longer))
    assert (logits(model, batch) - logits(model, longer)).abs().max() > 1e-2


# --- Fine-tuning ------------------------------------------------------------------------------------


OBJECTIVES = {SEQUENCE: "classification", TOKEN: "tagging"}


@pytest.mark.parametrize("head", OBJECTIVES)
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize(("family", "pretrained"), [("bert", MLM), ("electra", PRETRAINING)])
def test_fine_tuning_reads_two_layers_however_many_were_pretrained(
    family, pretrained, depth, head, tmp_path
):
    """The authors fine-tune with D = 3: dense_1, dense_2, pre_decoder; dense_3 is never read."""
    c = make_config(family, pretrained, depth=depth)
    w = make_weights(c)
    converted(tmp_path, c, w)
    changes = finetuning_changes(load_config(tmp_path / "ours"))
    model = load_model(
        OBJECTIVES[head], tmp_path / "ours", True, num_labels=LABELS, **changes
    ).eval()
    w = {name: tensor for name, tensor in w.items() if "dense_4" not in name}
    w |= {"demux_module.dense_3.weight": torch.zeros(16, 16)}
    w |= {name: t for name, t in model.state_dict().items() if name.startswith("classifier.")}
    c |= {"architectures": [f"Muxed{family.capitalize()}For{head}"]}
    batch = make_batch(c)
    batch[0][:, 0] = 101  # as tokenizers write it: ELECTRA's own classifiers do not overwrite it
    assert_same(logits(model, batch), oracle(c, w, *batch))


def test_fine_tuning_keeps_the_depth_of_all_else(tmp_path):
    c = make_config("bert", MLM, "index")
    assert finetuning_changes(converted(tmp_path, c, make_weights(c)).config) == {}
    assert finetuning_changes(own_config(demultiplexer_layers=2)) == {}


# --- As models of transformers ----------------------------------------------------------------------


@pytest.mark.parametrize("which", RETRIEVING, ids=name_of)
def test_saving_and_loading_changes_nothing(which, tmp_path):
    *names, extra = which
    c = make_config(*names, **extra)
    model, batch = converted(tmp_path, c, make_weights(c)), make_batch(c)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(model, batch), logits(load(tmp_path / "again", c), batch))


def test_training_leaves_the_multiplexers_keys(tmp_path):
    c = make_config()
    w = make_weights(c)
    model = converted(tmp_path, c, w).train()
    keys = "model.multiplexer.keys"
    assert keys in dict(model.named_buffers())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model(*make_batch(c), labels=torch.tensor([0, 1, 2, 3])).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path / "trained")
    after = load(tmp_path / "trained", c).state_dict()
    assert torch.equal(after[keys], w["instance_embedding"])
    private = w["demux_module.demux_instance_embedding"]
    assert not torch.equal(after["model.demultiplexer.keys"], private)


def test_half_precision_files_become_float32_models(tmp_path):
    c = make_config()
    w = {k: v.half() if v.is_floating_point() else v for k, v in make_weights(c).items()}
    wide, batch = {k: v.float() for k, v in w.items()}, make_batch(c)
    model, expected = converted(tmp_path, c, w), oracle(c, wide, *batch)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert_same(logits(model, batch), expected)
    half = load(tmp_path / "ours", c, dtype=torch.float16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}
    torch.testing.assert_close(logits(half, batch), expected.half(), rtol=0, atol=0.02)


# --- What is accepted -------------------------------------------------------------------------------

ACCEPTED = {
    "no positions": lambda c, w: w.pop("bert.embeddings.position_ids"),
    "no second bias": lambda c, w: w.pop("retrieval_head.bias"),
    "all outputs": lambda c, w: c.update(output_attentions=True, output_hidden_states=True),
    "another depth": lambda c, w: c.update(num_hidden_demux_layers=2),
    "no depth": lambda c, w: c.pop("num_hidden_demux_layers"),
    "no model type": lambda c, w: c.pop("model_type"),
    "another norm of the keys": lambda c, w: c.update(gaussian_hadamard_norm=20),
}


@pytest.mark.parametrize("head", [MLM, TOKEN])
@pytest.mark.parametrize("variant", ACCEPTED)
def test_variants_of_a_file_are_the_same_model(variant, head, tmp_path):
    c = make_config(head=head, depth=4)
    w, batch = make_weights(c), make_batch(c)
    expected = oracle(c, w, *batch)
    ACCEPTED[variant](c, w)
    assert_same(logits(converted(tmp_path, c, w), batch), expected)


@pytest.mark.parametrize(("family", "demux"), [("bert", "index_pos"), ("roberta", "index")])
def test_what_a_config_leaves_out_is_the_librarys_default(family, demux, tmp_path):
    c = make_config(family, demux=demux)
    w, batch = make_weights(c), make_batch(c)
    expected = oracle(c | {"layer_norm_eps": 1e-12}, w, *batch)
    del c["layer_norm_eps"], c["hidden_act"]
    padding = c.pop("pad_token_id")
    model = converted(tmp_path, c, w)
    assert_same(logits(model, batch), expected)
    assert model.config.pad_token_id == padding


def test_safetensors_are_read_too(tmp_path):
    c = make_config("bert", MLM)
    w, batch = make_weights(c), make_batch(c)
    model = converted(tmp_path, c, w, "model.safetensors")
    assert_same(logits(model, batch), oracle(c, w, *batch))


# --- What is refused --------------------------------------------------------------------------------


def refused(tmp_path, *names, source=None):
    """The refusal is one line with `names` in it, and leaves nothing behind."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError) as error:
        convert(source or str(tmp_path / "theirs"), str(tmp_path / "ours"))
    message = str(error.value)
    assert "\n" not in message
    assert [name for name in names if name not in message] == []
    assert sorted(tmp_path.iterdir()) == before


def altered(w, name):
    w[name] = w[name] + 1e-3


def drop(w, start):
    """Removes what starts so, and what stands for it elsewhere."""
    for name in [name for name in w if name.startswith(start) or f".{start}" in name]:
        del w[name]


def nested(w):
    """As in a training folder of MUX-ELECTRA, which holds a generator beside the discriminator."""
    for name in list(w):
        w[f"discriminator.{name}"] = w.pop(name)


WORDS, TIED = "bert.embeddings.word_embeddings.weight", "retrieval_head.decoder.weight"
NORM, DENSE = "demux_module.layer_norm_2.weight", "demux_module.dense_2.weight"
LAST, POOLER = "encoder.layer.1.output.dense.bias", "bert.pooler.dense.weight"
HEAD = "retrieval_head.pre_decoder.bias"
INNER, MUX = "encoder.layer.0.intermediate.dense", "instance_embedding"
REFUSED = {
    "no bias": (lambda c, w: w.pop(f"bert.{LAST}"), f"tensor bert.{LAST} is missing"),
    "no norm": (lambda c, w: w.pop(NORM), NORM),
    "no layer": (lambda c, w: w.pop(DENSE), DENSE),
    "no keys": (lambda c, w: w.pop(MUX), f"tensor {MUX} is missing"),
    "no head": (lambda c, w: drop(w, "retrieval_head.pre_decoder."), f"tensor {HEAD} is missing"),
    "no demux": (lambda c, w: drop(w, "demux_module.dense_1."), "demux_module.dense_1.bias is"),
    "pooler": (lambda c, w: w.update({POOLER: torch.ones(16, 16)}), POOLER, "unexpected"),
    "stranger": (lambda c, w: w.update(extra=torch.ones(1)), "extra", "unexpected"),
    "width": (lambda c, w: c.update(intermediate_size=25), INNER, "contradicts config.json"),
    "N": (lambda c, w: c.update(num_instances=3), MUX, "contradicts config.json"),
    "alias": (lambda c, w: altered(w, f"retrieval_head.{DENSE}"), f"retrieval_head.{DENSE}"),
    "second alias": (lambda c, w: altered(w, f"demultiplexer.{NORM}"), f"demultiplexer.{NORM}"),
    "second bias": (lambda c, w: altered(w, "retrieval_head.bias"), "retrieval_head.bias"),
    "untied": (lambda c, w: altered(w, TIED), TIED, WORDS),
    "generator": (lambda c, w: nested(w), "pytorch_model.bin", "theirs/discriminator"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_tensors_that_do_not_fit_are_refused(reason, tmp_path):
    c = make_config("bert", MLM)
    w = make_weights(c)
    edit, *names = REFUSED[reason]
    edit(c, w)
    write(tmp_path / "theirs", c, w)
    refused(tmp_path, "theirs", *names)


BAD_VALUES = [
    ("num_instances", None),
    ("architectures", ["BertForQuestionAnswering"]),
    ("muxing_variant", "gaussian_attention"),
    ("demuxing_variant", "index_por"),
]


@pytest.mark.parametrize(("key", "value"), BAD_VALUES)
def test_a_config_with_something_missing_or_unknown_is_refused(key, value, tmp_path):
    c = make_config()
    write(tmp_path / "theirs", c | {key: value}, make_weights(c))
    refused(tmp_path, "theirs/config.json", key, repr(value) if isinstance(value, str) else "")
    del c[key]
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(c))
    refused(tmp_path, "theirs/config.json", key)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(zipped, tmp_path):
    class Code:
        def __reduce__(self):
            return open, (str(tmp_path / "proof"), "w")

    c = make_config()
    file = write(tmp_path / "theirs", c, {})
    held = make_weights(c) | {"code": Code()}
    torch.save(held, file, _use_new_zipfile_serialization=zipped)
    refused(tmp_path, str(file))
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.9])
def test_a_truncated_file_is_refused(name, kept, tmp_path):
    c = make_config()
    file = write(tmp_path / "theirs", c, make_weights(c), name)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    refused(tmp_path, str(file))


def test_a_folder_without_weights_or_config_is_refused(tmp_path):
    write(tmp_path / "theirs", make_config(), {}).unlink()
    refused(tmp_path, "theirs", "model.safetensors", "pytorch_model.bin")
    (tmp_path / "theirs" / "config.json").unlink()
    refused(tmp_path, "theirs/config.json")


def test_an_existing_destination_is_left_alone(tmp_path):
    c = make_config()
    write(tmp_path / "theirs", c, make_weights(c))
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "mine.txt").write_text("kept")
    refused(tmp_path, str(tmp_path / "ours"))
    assert [p.name for p in (tmp_path / "ours").iterdir()] == ["mine.txt"]


def test_an_id_of_the_hub_needs_a_revision(tmp_path):
    refused(tmp_path, "owner/model", "--revision", source="owner/model")
    refused(tmp_path, "no/such/folder", source="no/such/folder")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_instances", 0),
        ("num_instances", "2"),
        ("hidden_size", "16"),
        ("num_attention_heads", 5),
        ("muxing_variant", ["x"]),
        ("retrieval_loss_coeff", None),
        ("retrieval_loss_coeff", -1),
        ("model_type", "electra"),
    ],
)
def test_a_config_that_describes_no_model_is_refused(key, value, tmp_path):
    c = make_config("bert", SEQUENCE)
    w = make_weights(c)
    write(tmp_path / "theirs", c | {key: value}, w)
    refused(tmp_path, "theirs/config.json")


def test_a_prefix_outside_the_vocabulary_is_refused(tmp_path):
    c = make_config("bert", SEQUENCE, "index")
    w = make_weights(c)
    words = "bert.embeddings.word_embeddings.weight"
    write(tmp_path / "theirs", c | {"vocab_size": 500}, w | {words: w[words][:500]})
    refused(tmp_path, "theirs/config.json", "680", "500")


@pytest.mark.parametrize("size", [3, 18, 28, 300])
def test_a_damaged_pickle_of_the_old_format_is_refused(size, tmp_path):
    """Its bytes raise whatever they happen to mean."""
    c = make_config("bert", SEQUENCE)
    file = write(tmp_path / "theirs", c, make_weights(c))
    torch.save({"a": torch.ones(3)}, file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes()[:size])
    refused(tmp_path, str(file))


def test_a_vocabulary_bias_under_its_second_name_alone_is_read(tmp_path):
    c = make_config("bert", MLM)
    w = make_weights(c)
    write(tmp_path / "both", c, w)
    write(tmp_path / "one", c, {k: v for k, v in w.items() if k != "retrieval_head.decoder.bias"})
    both, one = (conversion.converted(tmp_path / name).state_dict() for name in ("both", "one"))
    assert both["lm_head.bias"].abs().min() > 0
    assert all(torch.equal(both[name], one[name]) for name in both)


@pytest.mark.parametrize("name", ["retrieval_head.pre_decoder.extra", "retrieval_head.other"])
def test_a_tensor_that_the_retrieval_head_lacks_is_unexpected(name, tmp_path):
    c = make_config("bert", MLM)
    write(tmp_path / "theirs", c, make_weights(c) | {name: torch.ones(3)})
    refused(tmp_path, name)
