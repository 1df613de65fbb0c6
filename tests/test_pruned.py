"""Masked models against the small ones that are made of them, wherever a small one is used."""

import json

import pytest
import torch
from conftest import WORDS, build, make_config
from test_export import python
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    pipeline,
)
from typer.testing import CliRunner

from muxplm.cli import app
from muxplm.export import write_code
from muxplm.files import DataError
from muxplm.models.configuration import PrunedBertConfig
from muxplm.models.first_positions import read_first_positions
from muxplm.models.masks import (
    Masked,
    Masks,
    expected_sparsity,
    shrink,
    sparsity,
)
from muxplm.models.modeling import MuxForSequenceClassification, MuxForTokenClassification

AUTO = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
}
MUX = {"sequence": MuxForSequenceClassification, "token": MuxForTokenClassification}
LAYERS, HEADS, BETWEEN = 3, 2, 8


def dense(n, head="sequence", seed=0, **changes):
    """In evaluation mode: transformers' own BERT for n = 0, else a multiplexed one."""
    config = make_config(n=max(n, 1), num_labels=3, **changes)
    config.encoder.num_hidden_layers, config.encoder.intermediate_size = LAYERS, BETWEEN
    config.encoder.num_labels = 3
    torch.manual_seed(seed)
    model = MUX[head](config) if n else AUTO[head].from_config(config.encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def drawn(seed, dtype=torch.float32) -> Masks:
    """Masks that leave from nothing to all, some of them soft, some layers without a part."""
    random = torch.Generator().manual_seed(seed)
    shapes = ((LAYERS, HEADS), (LAYERS,), (LAYERS, BETWEEN), (LAYERS,))
    share = torch.rand(len(shapes), generator=random) ** 0.5
    soft = torch.rand(1, generator=random) < 0.7
    found = []
    for shape, keep in zip(shapes, share, strict=True):
        values = torch.rand(shape, generator=random).clamp_min(0.05) if soft else torch.ones(shape)
        found.append(values * (torch.rand(shape, generator=random) < keep))
    return Masks(*(mask.to(dtype) for mask in found))


def pattern(**changes) -> Masks:
    masks = Masks.ones(dense(0).config)
    for name, (where, value) in changes.items():
        getattr(masks, name)[where] = value
    return masks


PATTERNS = {
    "nothing": pattern(),
    "no head is left": pattern(heads=(0, 0.0)),
    "no intermediate is left": pattern(intermediates=(1, 0.0)),
    "both layers' parts": pattern(attention=(2, 0.0), feed_forward=(2, 0.0)),
    "all": pattern(heads=(slice(None), 0.0), intermediates=(slice(None), 0.0)),
    "soft": pattern(heads=((1, 0), 0.3), attention=(0, 0.9), feed_forward=(1, 0.2)),
}
MODELS = [
    (0, {}),
    *((n, {"demultiplexer": kind}) for n in (1, 2, 5) for kind in ("rsa", "prefix")),
    (2, {"multiplexer": "contextual"}),
    (5, {"multiplexer": "contextual", "demultiplexer": "prefix"}),
    (2, {"dialect": "released"}),
]


def outputs(model, ids, mask):
    with torch.no_grad():
        found = model(ids, mask, output_hidden_states=True)
    return [found.logits, *found.hidden_states]


def masked(model, masks, ids, mask):
    hooks = Masked(model, masks)
    found = outputs(model, ids, mask)
    hooks.remove()
    return found


def differs(ones, others) -> float:
    """The largest difference, as a part of the largest number where that is above 1."""
    assert len(ones) == len(others) == 2 + LAYERS
    pairs = zip(ones, others, strict=True)
    return max(((a - b).abs().max() / max(1.0, a.abs().max())).item() for a, b in pairs)


@pytest.mark.parametrize("head", ["sequence", "token"])
@pytest.mark.parametrize(("n", "changes"), MODELS, ids=str)
def test_the_small_model_is_the_masked_one(n, changes, head, ids, mask):
    """In float32 to 2e-6 and in float64 to 1e-13, every layer; the model itself is left as it was."""
    model = dense(n, head, **changes)
    before = outputs(model, ids, mask)
    for masks in (*PATTERNS.values(), *(drawn(seed) for seed in range(12))):
        small = outputs(shrink(model, masks), ids, mask)
        # Rounding: below 1e-6 on an AMD EPYC, 1.4e-6 on an Intel Xeon; float64, below, tells.
        assert differs(masked(model, masks, ids, mask), small) < 2e-6
    assert differs(outputs(model, ids, mask), before) == 0
    model = model.double()
    for seed in range(12, 16):
        masks = drawn(seed, torch.float64)
        small = outputs(shrink(model, masks), ids, mask)
        assert differs(masked(model, masks, ids, mask), small) < 1e-13


def test_masks_do_something(ids, mask):
    model = dense(2)
    whole = outputs(model, ids, mask)
    changed = [differs(whole, masked(model, m, ids, mask)) for m in PATTERNS.values()]
    assert changed[0] == 0 and min(changed[1:]) > 1e-3


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize("head", ["sequence", "token"])
def test_a_small_model_is_saved_and_loaded_as_any_other(n, head, ids, mask, tmp_path):
    small = shrink(dense(n, head), drawn(3))
    small.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded, found = AUTO[head].from_pretrained(tmp_path, output_loading_info=True)
    assert not (found["missing_keys"] or found["unexpected_keys"] or found["mismatched_keys"])
    assert type(loaded) is type(small)
    weights = loaded.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in small.state_dict().items())
    assert differs(outputs(loaded, ids, mask), outputs(small, ids, mask)) < 1e-6
    encoder = AutoModel.from_pretrained(tmp_path)
    config = encoder.config.encoder if n else encoder.config
    assert type(config) is PrunedBertConfig
    assert (config.heads, config.intermediates) == drawn(3).structure


def test_a_small_model_can_be_trained(ids, mask):
    small = shrink(dense(2), pattern(heads=((0, 1), 0.0), feed_forward=(1, 0.0))).train()
    small(ids, mask, labels=torch.arange(7) % 3).loss.backward()
    without = [k for k, p in small.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert not [name for name in without if "encoder.layer" in name and "key.bias" not in name]


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize("gone", [(), (2,), (1, 2), (0, 1, 2)])
def test_a_classifier_reads_the_first_positions_of_a_small_model(n, gone, ids, mask):
    """Of the last layer that has an attention; those after it see as few positions."""
    small = shrink(dense(n), pattern(heads=(list(gone), 0.0), intermediates=((2, 1), 0.0)))
    whole = outputs(small, ids, mask)
    read_first_positions(small)
    found = outputs(small, ids, mask)
    torch.testing.assert_close(found[0], whole[0], rtol=1e-5, atol=2e-6)
    lengths = [states.shape[1] for states in found[1:]]
    attending = LAYERS - len(gone)
    few = [1] * (LAYERS - attending + 1) if attending else []
    assert lengths == [12] * (1 + LAYERS - len(few)) + few


# --- How much is left --------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [*PATTERNS.values(), *map(drawn, range(10))])
def test_sparsity_is_what_the_small_model_lacks(masks):
    model = dense(2)

    def count(model):
        names = ((name, p.numel()) for name, p in model.named_parameters())
        return sum(n for name, n in names if ".layer." in name and "LayerNorm" not in name)

    left = count(shrink(model, masks)) / count(model)
    assert sparsity(masks, model.config.encoder) == pytest.approx(1 - left, abs=1e-12)


def test_expected_sparsity_by_hand():
    """H = 16, two heads, I = 8: 1 088 in an attention, 280 in a feed-forward part, 3 layers."""
    config = dense(0).config
    p = Masks.ones(config)
    assert expected_sparsity(p, config).item() == pytest.approx(0)
    p.attention[:] = torch.tensor([0.5, 1.0, 0.0])
    p.heads[0] = torch.tensor([0.2, 0.6])
    p.feed_forward[:] = torch.tensor([1.0, 0.25, 1.0])
    p.intermediates[1] = torch.arange(8) / 8  # 3.5 of 8
    attention = (0.5 * (0.2 + 0.6) + 1.0 * 2 + 0.0 * 2) * 1088 / 2
    feed_forward = (8 + 0.25 * 3.5 + 8) * 280 / 8
    expected = 1 - (attention + feed_forward) / (3 * (1088 + 280))
    assert expected_sparsity(p, config).item() == pytest.approx(expected, abs=1e-6)


def test_expected_sparsity_of_certain_masks_is_the_real_one():
    """But for the bias of a part's output, which it shares out among the part's units."""
    config = dense(0).config
    for seed in range(20):
        kept = Masks(**{k: t.float() for k, t in drawn(seed).kept.tensors().items()})
        bias = 2 * 3 * 16 / (3 * (1088 + 280))
        assert expected_sparsity(kept, config).item() == pytest.approx(
            sparsity(kept, config), abs=bias
        )


def test_what_cannot_be_pruned_is_named():
    with pytest.raises(DataError, match="only a whole BERT can be pruned, not a electra"):
        Masked(build(MuxForSequenceClassification, encoder="electra"))
    with pytest.raises(DataError, match="not a pruned-bert"):
        shrink(shrink(dense(2), drawn(3)), drawn(3))
    for sizes in ([1, 2], [1, 2, 3], [1, -1, 1]):
        with pytest.raises(ValueError, match="it must be 3 numbers from 0 to 2"):
            PrunedBertConfig(num_hidden_layers=3, num_attention_heads=2, heads=sizes)


# --- In use ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 2])
def test_pipelines_and_predict_answer_as_the_masked_model(n, tokenizer, tmp_path):
    model, masks, texts = (
        dense(n),
        drawn(3),
        [f"{a} {b}" for a, b in zip(WORDS, WORDS[7:], strict=False)],
    )
    shrink(model, masks).save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    with torch.no_grad():
        hooks = Masked(model, masks)
        expected = pipeline("text-classification", model, tokenizer=tokenizer)(texts)
        hooks.remove()
    found = pipeline("text-classification", str(tmp_path / "small"), device="cpu")(texts)
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    scores = [[row["score"] for row in rows] for rows in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    options = ["--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl"]
    options += ["--precision", "fp32"]
    done = CliRunner().invoke(app, [str(o) for o in ["predict", tmp_path / "small", *options]])
    assert done.exit_code == 0, done.exception
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in rows] == [row["label"] for row in expected]


def test_without_muxplm_the_folders_own_code_answers_alike(ids, tmp_path):
    """A plain and a multiplexed one."""
    expected = []
    for n in (0, 2):
        small = shrink(dense(n), drawn(3))
        small.save_pretrained(tmp_path / f"small{n}")
        write_code(tmp_path / f"small{n}", type(small.config))
        expected.append(outputs(small, ids, torch.ones_like(ids))[0])
    code = f"""
import torch
from transformers import AutoModelForSequenceClassification as Auto
for n in (0, 2):
    model = Auto.from_pretrained(f"small{{n}}", trust_remote_code=True).eval()
    with torch.no_grad():
        print(model(torch.tensor({ids.tolist()})).logits.tolist())
"""
    done = python(code, tmp_path / "small0")
    assert done.returncode == 0, done.stderr
    found = [torch.tensor(json.loads(line)) for line in done.stdout.splitlines()]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
