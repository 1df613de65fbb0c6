"""The multiplexed models against an oracle written from the paper's formulas, and their properties."""

import ast
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ENCODERS, VOCABULARY, build, make_config
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from muxplm import experiments, models
from muxplm.models import heads
from muxplm.models.configuration import PREFIX_IDS
from muxplm.models.encoding import DIALECTS
from muxplm.models.modeling import (
    MuxForMaskedLM,
    MuxForPreTraining,
    MuxForSequenceClassification,
    MuxForTokenClassification,
    MuxForTokenRetrieval,
    MuxModel,
)

HEADS = (
    MuxForMaskedLM,
    MuxForPreTraining,
    MuxForSequenceClassification,
    MuxForTokenClassification,
    MuxForTokenRetrieval,
)
KINDS = [(m, d) for m in ("hadamard", "contextual") for d in ("rsa", "prefix")]


# --- The oracle: loops over instances, concatenations spelt out, no code of the package ------------


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def norm(x, module):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + module.eps)
    return scaled * module.weight + module.bias


def mixture(model, rows, masks):
    """Equations (1) and (2), over sqrt(N), for one group: N rows of ids -> (L, E)."""
    embeddings, keys = model.get_input_embeddings().weight, model.multiplexer.keys
    total = 0
    for row, mask, key in zip(rows, masks, keys, strict=True):
        total = total + torch.stack(
            [embeddings[i] * key * m for i, m in zip(row, mask, strict=True)]
        )
    return total / math.sqrt(len(keys))


def demultiplexed(model, rows, masks):
    """One group through mixture, encoder and MLP([key ; hidden]) -> (N, L, H)."""
    n, length = rows.shape
    mixed, seen = mixture(model, rows, masks), masks.amax(0)
    if model.config.demultiplexer == "prefix":
        *own, pad = model.config.prefix_token_ids
        prefixes = [[own[i] if i == j else pad for j in range(n)] for i in range(n)]
        prefixes = torch.tensor(prefixes)
        mixed = torch.cat([mixture(model, prefixes, torch.ones_like(prefixes)), mixed])
        seen = torch.cat([torch.ones(n, dtype=seen.dtype), seen])
    hidden = model.encoder(inputs_embeds=mixed[None], attention_mask=seen[None])[0][0]
    demux = model.demultiplexer
    if model.config.demultiplexer == "prefix":
        keys, hidden = hidden[:n], hidden[n:]
    else:
        keys = demux.keys
    first = torch.cat([demux.from_key.weight, demux.from_hidden.weight], dim=1)  # (H, 2H)
    out = []
    for key in keys:
        both = torch.cat([key.expand(length, -1), hidden], dim=1)  # (L, 2H)
        x = norm(gelu(both @ first.T + demux.from_hidden.bias), demux.norms[0])
        for layer, layer_norm in zip(demux.layers, demux.norms[1:], strict=True):
            x = norm(gelu(x @ layer.weight.T + layer.bias), layer_norm) + x
        out.append(x)
    return torch.stack(out)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("demultiplexer", ["rsa", "prefix"])
def test_the_model_is_the_papers_formulas(encoder, demultiplexer, ids, mask):
    model = build(MuxModel, encoder=encoder, demultiplexer=demultiplexer, demultiplexer_layers=3)
    ids, mask = ids[:6], mask[:6]
    found = model(ids, mask).last_hidden_state
    for group in range(2):
        rows = slice(3 * group, 3 * group + 3)
        expected = demultiplexed(model, ids[rows], mask[rows])
        real = mask[rows].bool()
        torch.testing.assert_close(found[rows][real], expected[real], rtol=1e-4, atol=1e-5)


def test_contextual_multiplexing_attends_within_and_then_across(ids):
    """Equations (4) and (5), one group and one position at a time."""
    model = build(MuxModel, multiplexer="contextual").multiplexer
    words = torch.randn(3, 5, 16)  # (N, L, E)
    masks = torch.tensor([[1] * 5, [1] * 3 + [0] * 2, [1] * 5])
    found = model(words[None], masks[None])[0]
    keyed = []
    for row, mask, key in zip(words, masks, model.keys, strict=True):
        kept = int(mask.sum())
        inputs = norm(row[:kept] + model.positions.weight[:kept], model.norm)
        context = torch.zeros(5, 16)
        context[:kept] = model.within(inputs[None])[0]
        keyed.append(context * key)
    for position in range(5):
        present = [k[position] for k, m in zip(keyed, masks, strict=True) if m[position]]
        expected = model.across(torch.stack(present)[None])[0].sum(0) / 3
        torch.testing.assert_close(found[position], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_contextual_layers_have_the_encoders_dropout(rate):
    config = make_config(multiplexer="contextual")
    config.encoder.hidden_dropout_prob = config.encoder.attention_probs_dropout_prob = rate
    model = MuxModel(config).train()
    words, mask = torch.randn(2, 3, 5, 16), torch.ones(2, 3, 5)
    torch.manual_seed(0)
    first = model.multiplexer(words, mask)
    assert torch.equal(first, model.multiplexer(words, mask)) == (rate == 0)


# --- Properties ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("multiplexer", "demultiplexer"), KINDS)
@pytest.mark.parametrize("head", HEADS)
def test_padding_length_changes_nothing(head, multiplexer, demultiplexer, ids, mask):
    model = build(head, multiplexer=multiplexer, demultiplexer=demultiplexer, num_labels=4)
    longer = torch.nn.functional.pad(ids, (0, 6), value=9)
    longer_mask = torch.nn.functional.pad(mask, (0, 6))
    short, long = model(ids, mask).logits, model(longer, longer_mask).logits
    if short.ndim == 2 and short.shape[1] == 4:
        torch.testing.assert_close(short, long)
    else:
        real = mask.bool()
        torch.testing.assert_close(short[real], long[:, : ids.shape[1]][real])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rows", [1, 2, 4, 5])
def test_any_number_of_rows_works_and_filler_stays_inside(head, rows, ids, mask):
    """An incomplete group is completed with its own rows."""
    model = build(head, num_labels=4)
    partial = model(ids[:rows], mask[:rows]).logits
    filled = {1: [0, 0, 0], 2: [0, 1, 0], 4: [0, 1, 2, 3, 3, 3], 5: [0, 1, 2, 3, 4, 3]}[rows]
    whole = model(ids[filled], mask[filled]).logits
    assert len(partial) == rows
    torch.testing.assert_close(partial, whole[:rows])


def test_groups_do_not_see_each_other_but_instances_do(ids):
    model = build(MuxForSequenceClassification, n=2, num_labels=3)
    before = model(ids[:6]).logits
    changed = ids[:6].clone()
    changed[2] = 7  # instance 0 of group 1
    after = model(changed).logits
    torch.testing.assert_close(before[[0, 1, 4, 5]], after[[0, 1, 4, 5]])
    assert not torch.allclose(before[2], after[2])
    assert not torch.allclose(before[3], after[3])  # shares the encoder pass of row 2


def test_order_within_a_group_matters():
    """Otherwise nothing could tell the instances apart (the keys make mixing order-preserving)."""
    model = build(MuxForTokenRetrieval, n=2)
    rows = torch.tensor([[5, 6, 7], [8, 9, 10]])
    assert not torch.allclose(model(rows).logits, model(rows.flip(0)).logits.flip(0))


@pytest.mark.parametrize("demultiplexer", ["rsa", "prefix"])
def test_masked_lm_scores_masked_positions_as_it_would_all(demultiplexer, ids, mask):
    model = build(MuxForMaskedLM, demultiplexer=demultiplexer)
    labels = torch.full_like(ids, -100)
    labels[0, 3], labels[2, 1], labels[6, 5] = 11, 12, 13
    everything = model(ids, mask).logits  # (R, L, V)
    model.sparse_prediction = True
    output = model(ids, mask, labels=labels)
    where = (labels != -100).nonzero(as_tuple=True)
    torch.testing.assert_close(output.logits, everything[where], rtol=1e-4, atol=1e-5)
    expected = -torch.log_softmax(everything[where], -1)[range(3), [11, 12, 13]].mean()
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)


def test_retrieval_loss_reads_one_instance_per_position(ids, mask, monkeypatch):
    """With the draw fixed to instance 1, the loss is that instance's cross-entropy alone."""
    model = build(MuxForTokenRetrieval)
    ids, mask = ids[:6], mask[:6]
    monkeypatch.setattr(torch, "randint", lambda high, size, **_: torch.ones(size).long())
    loss = model(ids, mask, labels=ids).loss
    rows = torch.tensor([1, 4])
    scores = torch.log_softmax(model(ids, mask).logits[rows], -1)
    own = scores.gather(-1, ids[rows][..., None])[..., 0][mask[rows].bool()]
    torch.testing.assert_close(loss, -own.mean(), rtol=1e-4, atol=1e-5)


def test_retrieval_weight_mixes_the_losses_and_zero_builds_no_head(ids, monkeypatch):
    labels = torch.arange(7) % 2
    model = build(MuxForSequenceClassification, retrieval_weight=0.1, classifier_dropout=0.0)
    monkeypatch.setattr(torch, "randint", lambda high, size, **_: torch.zeros(size).long())
    encoded = model.model.encode(ids)
    retrieval = model.retrieval_loss(encoded)
    task = torch.nn.functional.cross_entropy(model(ids).logits, labels)
    mixed = model(ids, labels=labels).loss
    torch.testing.assert_close(mixed, 0.9 * task + 0.1 * retrieval)
    assert not hasattr(build(MuxForSequenceClassification), "lm_head")


def test_replaced_token_detection_ignores_padding(ids, mask):
    model = build(MuxForPreTraining)
    labels = (ids % 3 == 0).long()
    logits, real = model(ids, mask).logits, mask.bool()
    p = torch.sigmoid(logits[real])
    y = labels[real].float()
    expected = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    torch.testing.assert_close(model(ids, mask, labels=labels).loss, expected)


def test_regression_is_mean_squared_error(ids):
    model = build(MuxForSequenceClassification, num_labels=1, classifier_dropout=0.0)
    labels = torch.linspace(0, 5, 7)
    expected = ((model(ids).logits[:, 0] - labels) ** 2).mean()
    torch.testing.assert_close(model(ids, labels=labels).loss, expected)


# --- As a citizen of transformers -------------------------------------------------------------------


ROUND_TRIPS = [(head, "bert", *kind) for head in HEADS for kind in KINDS]
ROUND_TRIPS += [(MuxForMaskedLM, encoder, "hadamard", "rsa") for encoder in ENCODERS[1:]]


@pytest.mark.parametrize(("head", "encoder", "multiplexer", "demultiplexer"), ROUND_TRIPS)
def test_round_trip_keeps_logits_and_fixed_keys(
    head, encoder, multiplexer, demultiplexer, ids, mask, tmp_path
):
    kinds = {"multiplexer": multiplexer, "demultiplexer": demultiplexer}
    model = build(head, encoder=encoder, **kinds)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded = head.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(model(ids, mask).logits, loaded(ids, mask).logits)
    keys = loaded.model.multiplexer.keys
    assert torch.equal(keys, model.model.multiplexer.keys)
    assert not keys.requires_grad
    assert "model.multiplexer.keys" not in dict(loaded.named_parameters())


def test_training_moves_everything_but_the_fixed_keys(ids, tmp_path):
    build(MuxForTokenRetrieval).save_pretrained(tmp_path)
    model = MuxForTokenRetrieval.from_pretrained(tmp_path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    after = model.state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    # A key's bias moves every score of a softmax alike, so its gradient is zero in exact arithmetic.
    assert {name for name in still if not name.endswith("key.bias")} == {"model.multiplexer.keys"}


def test_keys_are_standard_normal():
    """Equation (1): v ~ N(0, I). The bounds are five standard errors wide."""
    config = make_config(n=10)
    config.encoder.hidden_size = 1000
    keys = MuxModel(config).multiplexer.keys
    assert abs(keys.mean()) < 5 / 100
    assert abs(keys.var() - 1) < 5 * math.sqrt(2 / 10_000)


def test_auto_classes_build_multiplexed_models():
    config = make_config(num_labels=5)
    assert type(AutoConfig.for_model(**config.to_dict())) is type(config)
    pairs = {
        AutoModel: MuxModel,
        AutoModelForMaskedLM: MuxForMaskedLM,
        AutoModelForPreTraining: MuxForPreTraining,
        AutoModelForSequenceClassification: MuxForSequenceClassification,
        AutoModelForTokenClassification: MuxForTokenClassification,
    }
    for auto, expected in pairs.items():
        assert type(auto.from_config(config)) is expected


IMPORTS = (
    "import muxplm",
    "import transformers, muxplm",
    "import muxplm.models.modeling",
    "import muxplm.models.encoding",
    "import muxplm.model_config",
    "import muxplm.batching",
    "import muxplm; from transformers import BertForMaskedLM, Trainer",
)


@pytest.mark.parametrize("first", IMPORTS)
def test_registration_does_not_depend_on_what_is_imported_first(first):
    code = f"""{first}
from transformers import AutoConfig, AutoModelForMaskedLM
encoder = dict(model_type="bert", hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
config = AutoConfig.for_model("muxplm", num_instances=2, encoder=encoder)
print(type(AutoModelForMaskedLM.from_config(config)).__name__)"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "MuxForMaskedLM", result.stderr


def test_impossible_configs_are_refused_in_one_line():
    with pytest.raises(ValueError, match="num_instances is 0; it must be at least 1"):
        make_config(n=0)
    with pytest.raises(ValueError, match="needs 4 spare ids"):
        AutoConfig.for_model("muxplm", num_instances=3, demultiplexer="prefix")


# Configs used to have three switches, each on in one of the dialects and off in the other.
SWITCHES = {"embeds_twice": "released", "masks_padding": "paper", "demultiplexer_norms": "paper"}


@pytest.mark.parametrize("dialect", ["paper", "released"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_of_an_older_config_is_as_its_dialect_has_it_or_refused(
    switch, dialect, ids, tmp_path
):
    model = build(MuxForMaskedLM, dialect=dialect)
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    values, default = json.loads(file.read_text()), dialect == SWITCHES[switch]
    for spelt in (default, None):
        file.write_text(json.dumps(values | {switch: spelt}))
        loaded = MuxForMaskedLM.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
        assert switch not in loaded.config.to_dict()
    file.write_text(json.dumps(values | {switch: not default}))
    refusal = f"{switch} is {not default} where the {dialect} dialect has {default}: [^\n]*anew"
    with pytest.raises(ValueError, match=refusal):
        MuxForMaskedLM.from_pretrained(tmp_path)


def test_a_dialect_goes_by_one_name_everywhere():
    assert set(DIALECTS) == set(PREFIX_IDS) == set(experiments.DIALECTS)


def test_models_import_no_settings_no_data_and_nothing_above():
    """What a model computes is in its own config; settings, grid and data are the workflow's."""
    files = sorted(Path(models.__file__).parent.rglob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    known = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    known |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in known if name.split(".")[0] == "muxplm"}
    below = {name for name in ours if name.startswith("muxplm.models.")}
    assert "muxplm" not in ours  # from muxplm import ... would hide what is imported
    assert ours - below == {"muxplm.files", "muxplm.mistakes"}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_priming_lowers_the_retrieval_loss(encoder):
    """A few steps on random tokens: the loss leaves the level of blind guessing."""
    torch.manual_seed(0)
    model = MuxForTokenRetrieval(make_config(encoder=encoder, n=2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(220):
        ids = torch.randint(2, 12, (32, 8))
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.8 * math.log(10) < math.log(VOCABULARY)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_large_vocabularys_loss_is_made_in_pieces(precision, monkeypatch):
    """The loss, and the gradients of states, matrix and bias, of as many logits in one piece."""
    torch.manual_seed(0)
    parts = [torch.randn(700, 32), torch.randn(3000, 32), torch.randn(3000)]
    words = torch.randint(3000, (700,))
    called = []
    pieces = F.linear_cross_entropy
    monkeypatch.setattr(
        F, "linear_cross_entropy", lambda *a, **k: called.append(1) or pieces(*a, **k)
    )

    def found(many):
        monkeypatch.setattr(heads, "MANY_LOGITS", many)
        leaves = [part.clone().requires_grad_() for part in parts]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = heads.mean_cross_entropy(*leaves, words)
        loss.backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves)]

    rounding = {"fp32": 1e-5, "bf16": 0.02}[precision]
    whole, cut = found(many=10**9), found(many=0)
    assert called == [1]
    for one, other in zip(whole, cut, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert (other - one).norm() < rounding * one.norm()
    with torch.no_grad():  # no gradient is wanted: the loss is not rounded
        heads.mean_cross_entropy(*parts, words)
    assert called == [1]
