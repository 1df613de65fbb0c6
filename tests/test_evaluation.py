"""Ensembles, strategies of composition and muxology against plain loops, and their properties."""

import math
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
import yaml
from conftest import build, make_config
from transformers import BertModel, ElectraModel, ModernBertModel

from muxplm import config, hub
from muxplm.data.collation import PadRows, tokenize_task
from muxplm.data.prepare import (
    prepare_blocks,
    prepare_tokenizer,
    read_blocks,
    read_tokenizer,
)
from muxplm.data.rows import prepare_task, read_task
from muxplm.evaluation import muxology
from muxplm.evaluation.composition import STRATEGIES, compose, write_compositions
from muxplm.evaluation.ensembling import write_ensembles
from muxplm.evaluation.muxology import layer_means, write_muxology
from muxplm.evaluation.score import predict, validation_rows, write_scores
from muxplm.files import DataError, read_json
from muxplm.grouping import duplicated
from muxplm.model_config import model_config
from muxplm.models.build import load_model, new_model
from muxplm.models.modeling import MuxModel
from muxplm.reporting.scores import headline, read_scores
from muxplm.tasks import TASKS

ROOT = Path(__file__).parent.parent
N, ROWS = 3, 20  # 20 rows are no multiple of 3
TRAINED, SEEDS = [1, 3], [4, 9]
NAME, CELLS = "mux-bert-base-n3", ("mnli", "stsb", "ner")
TINY = {
    "precision": "fp32",
    "instances": [1, N],
    "tasks": [*CELLS],
    "training_seeds": TRAINED,
    "composition_seeds": SEEDS,
    "data": {
        "synthetic": {
            "documents": 400,
            "train_rows": dict.fromkeys(CELLS, 40),
            "validation_rows": ROWS,
        }
    },
    "tokenizer": {"vocab_size": 400},
    "shapes": {"base": {"layers": 2, "hidden": 16, "heads": 2, "intermediate": 32}},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Settings whose data is prepared; models with random weights are scored, in all three ways."""
    folder = tmp_path_factory.mktemp("evaluation")
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    settings = config.validate(config.merge(default, TINY | {"results": str(folder)}))
    prepare_tokenizer(settings)
    prepare_blocks(settings)
    for task in CELLS:
        for split in hub.SPLITS:
            prepare_task(task, split, settings)
    for task, seed in product(CELLS, TRAINED):
        path = settings.paths.finetuned(NAME, task, seed)
        labels = len(TASKS[task].labels) or 1
        save_random(settings, NAME, TASKS[task].kind, path, seed, num_labels=labels)
    for write in (write_scores, write_ensembles, write_compositions):
        write(settings, NAME, CELLS)
    return settings


def save_random(settings, name, objective, path, seed=0, **changes):
    """A model whose weights are far from zero, so that rows and companies differ in outcome."""
    cfg = model_config(settings, settings.variants[name], read_tokenizer(settings))
    for key, value in changes.items():
        setattr(cfg, key, value)
    torch.manual_seed(seed)
    model = new_model(objective, cfg)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # a bias would decide for one class whatever the row
                parameter.add_(torch.randn_like(parameter) * 0.5)
    model.save_pretrained(Path(path).parent)


def metrics_of(file: str, key: str, **wanted) -> dict:
    """Metrics by seeds, of those runs of a summary that are as wanted."""
    return {
        (run["training_seed"], run["composition_seed"]): run["metrics"]
        for run in read_json(file)[key]
        if all(run[name] == value for name, value in wanted.items())
    }


# --- MNLI's second validation split ---------------------------------------------------------------


def test_mismatched_rows_are_scored_apart(settings):
    """Against a plain loop over groups; in the tidy table as a column of its own, in no average."""
    path = settings.paths.scores(NAME, "mnli")
    found, matched = metrics_of(path, "validation_mismatched"), metrics_of(path, "scores")
    assert set(found) == set(matched) == set(product(TRAINED, SEEDS))
    assert found != matched
    rows = validation_rows(settings, TASKS["mnli"], "validation_mismatched")
    for (trained, seed), metrics in found.items():
        folder = Path(settings.paths.finetuned(NAME, "mnli", trained)).parent
        model = load_model("classification", folder).eval()
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed)).tolist()
        hits = 0
        for start in range(0, ROWS, N):
            group = [rows[i] for i in order[start : start + N]]
            batch = PadRows(0)(group)
            best = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1).tolist()
            hits += sum(p == row["labels"] for p, row in zip(best, group, strict=True))
        assert metrics["accuracy"] == pytest.approx(hits / ROWS)
    scores = read_scores(settings, [settings.variants[NAME]], ["mnli"])
    own = scores[scores["metric"] == "mismatched/accuracy"]["value"]
    assert own.mean() == pytest.approx(100 * np.mean([m["accuracy"] for m in found.values()]))
    assert set(headline(scores)["metric"]) == {"accuracy"}


# --- Ensembles -----------------------------------------------------------------------------------


def completed(batch, n):
    """The model's own filler: the last group's rows once more, from its first on."""
    last = batch[len(batch) // n * n :]
    return batch + (last * n)[: n - len(last)] if last else batch


def averaged_logits(settings, task, training_seed, copies, order_of) -> list[torch.Tensor]:
    """Section 5.4 in plain loops: duplicate, order, one group at a time, average by hand."""
    tokenizer = read_tokenizer(settings)
    data = read_task(task.name, "validation", settings)
    rows = tokenize_task(task, data, tokenizer, settings.task_length)
    path = settings.paths.finetuned(NAME, task.name, training_seed)
    model = load_model(task.kind, Path(path).parent).eval()
    batch = [i for i in range(ROWS) for _ in range(copies)]
    batch = [batch[j] for j in order_of(len(batch))]
    batch = completed(batch, N)
    sums = [[] for _ in rows]
    for start in range(0, len(batch), N):
        group = batch[start : start + N]
        inputs = PadRows(tokenizer.pad_token_id)([rows[i] for i in group])
        with torch.no_grad():
            logits = model(inputs["input_ids"], inputs["attention_mask"]).logits
        for place, i in enumerate(group):
            if start + place < ROWS * copies:
                sums[i].append(logits[place][: len(rows[i]["input_ids"])])
    assert {len(found) for found in sums} == {copies}
    return [sum(found) / copies for found in sums]


def permuted(seed):
    return lambda size: torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def test_one_copy_is_the_ordinary_score(settings):
    for task in CELLS:
        ensembles = metrics_of(settings.paths.ensembles(NAME, task), "runs", copies=1)
        assert len(ensembles) == len(TRAINED) * len(SEEDS)
        assert ensembles == metrics_of(settings.paths.scores(NAME, task), "scores")


@pytest.mark.parametrize("copies", [2, N])
def test_ensembles_against_plain_loops(settings, copies):
    for task, seed, composition in product(("mnli", "stsb"), TRAINED, SEEDS):
        logits = averaged_logits(settings, TASKS[task], seed, copies, permuted(composition))
        labels = list(read_task(task, "validation", settings)["label"])
        file = settings.paths.ensembles(NAME, task)
        found = metrics_of(file, "runs", copies=copies)[seed, composition]
        if task == "mnli":
            best = [int(x.argmax()) for x in logits]
            assert len(set(best)) > 1
            hits = [b == label for b, label in zip(best, labels, strict=True)]
            assert found["accuracy"] == pytest.approx(sum(hits) / ROWS)
        else:
            correlation = scipy.stats.pearsonr([float(x) for x in logits], labels).statistic
            assert found["pearson"] == pytest.approx(correlation, abs=1e-5)
    summary = read_json(settings.paths.ensembles(NAME, "mnli"))
    assert (summary["instances"], summary["rows"], summary["metric"]) == (N, ROWS, "accuracy")
    assert [run["copies"] for run in summary["runs"]] == [1, 2, 3] * 4


def test_the_order_of_the_copies_matters(settings):
    """Else the oracle above could not tell a permuted batch from one whose groups hold one row."""
    apart = averaged_logits(settings, TASKS["stsb"], 1, N, permuted(SEEDS[0]))
    together = averaged_logits(settings, TASKS["stsb"], 1, N, range)
    assert not torch.allclose(torch.stack(apart), torch.stack(together), atol=1e-2)


@pytest.mark.parametrize("copies", [1, 4])
def test_copies_are_as_many_as_asked_and_spread(copies):
    order = duplicated(50, copies, seed=3).tolist()
    assert sorted(order) == sorted(list(range(50)) * copies)
    assert order == duplicated(50, copies, seed=3).tolist()
    assert order != duplicated(50, copies, seed=4).tolist()
    neighbours = sum(a == b for a, b in pairwise(order))
    assert neighbours < 20  # 150 of 199 if copies stood together; 3 are expected


class ByPlace(torch.nn.Module):
    """Logits that depend on nothing but the row's place in its group of three."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.logits.repeat(len(input_ids) // 3, 1))


def test_logits_are_averaged_not_decisions():
    rows = [{"input_ids": [2, 7, 3], "labels": 0}] * 2
    order = [0, 0, 0, 1, 1, 1]
    votes = ByPlace([[1.0, 0.0], [1.0, 0.0], [0.0, 9.0]])  # two weakly for 0, one strongly for 1
    assert predict(votes, TASKS["sst2"], rows, order, 3, PadRows(0), "fp32") == [1, 1]
    values = ByPlace([[1.0], [2.0], [6.0]])
    assert predict(values, TASKS["stsb"], rows, order, 3, PadRows(0), "fp32") == [3.0, 3.0]


def test_copies_of_a_tagged_row_are_averaged_token_by_token():
    """The copies are padded to different lengths, by the company they keep."""

    class FromIds(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            real = torch.nn.functional.one_hot(input_ids % 5, 5).float()
            return SimpleNamespace(logits=real + 9 * (input_ids == 0)[..., None])

    texts = [[1, 2, 3], [4, 1, 2, 3, 4, 1], [3, 2]]
    rows = [{"input_ids": ids, "labels": [-100, *[0] * (len(ids) - 1)]} for ids in texts]
    order = [0, 2, 0, 1, 1, 2]  # in pairs: padded to 3, 6 and 6
    found = predict(FromIds(), TASKS["ner"], rows, order, 2, PadRows(0), "fp32")
    assert found == [ids[1:] for ids in texts]


@pytest.mark.parametrize("write", [write_ensembles, write_compositions])
def test_a_model_that_is_not_multiplexed_is_refused(settings, write):
    with pytest.raises(
        DataError, match=r"bert-base has N = 1.*: name a model with N > 1"
    ) as caught:
        write(settings, "bert-base", ["mnli"])
    assert "\n" not in str(caught.value)


# --- Strategies of composition -------------------------------------------------------------------

SPECIAL = {0, 1, 2}
STARTS = range(10, 70, 10)  # six topics of ten words each


def topical_texts(count=47):
    """Texts of four to eight words of one topic, between the special tokens 1 and 2."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, 9, (count,), generator=generator).tolist()
    return [
        [
            1,
            *(STARTS[i % 6] + torch.randint(10, (length,), generator=generator)).tolist(),
            2,
        ]
        for i, length in enumerate(lengths)
    ]


def jaccard(a, b):
    a, b = set(a) - SPECIAL, set(b) - SPECIAL
    return len(a & b) / len(a | b) if a | b else 0.0


def groups(order, n):
    order = order.tolist()
    return [order[start : start + n] for start in range(0, len(order), n)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n", [2, 5, 10, 60])
def test_a_strategy_places_every_row_once(strategy, n):
    texts = topical_texts()
    order = compose(strategy, texts, SPECIAL, n, seed=1)
    assert sorted(order.tolist()) == list(range(len(texts)))
    assert torch.equal(order, compose(strategy, texts, SPECIAL, n, seed=1))
    assert not torch.equal(order, compose(strategy, texts, SPECIAL, n, seed=2))


@pytest.mark.parametrize("n", [2, 5])
def test_overlap_within_groups(n):
    def mean_overlap(strategy):
        order = compose(strategy, texts, SPECIAL, n, seed=1)
        pairs = [(a, b) for g in groups(order, n) for a in g for b in g if a < b]
        return sum(jaccard(texts[a], texts[b]) for a, b in pairs) / len(pairs)

    texts = topical_texts()
    assert mean_overlap("clustered") > 2 * mean_overlap("random")
    assert mean_overlap("anti-clustered") < 0.8 * mean_overlap("random")


def greedy(texts, n, sign, seed):
    """Each row still there, in the seed's order, with the N - 1 others of least sign * overlap."""
    rest, order = permuted(seed)(len(texts)).tolist(), []
    while rest:
        first = rest.pop(0)
        company = sorted(rest, key=lambda i: sign * jaccard(texts[first], texts[i]))[: n - 1]
        order += [first, *company]
        rest = [i for i in rest if i not in company]
    return order


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize(("strategy", "sign"), [("clustered", -1), ("anti-clustered", 1)])
def test_overlap_against_a_plain_loop(strategy, sign, n):
    texts = topical_texts()
    found = compose(strategy, texts, SPECIAL, n, seed=7)
    assert found.tolist() == greedy(texts, n, sign, seed=7)


def test_rows_without_a_known_word_overlap_with_none():
    texts = [[1, 2], [1, 10, 2], [1, 0, 2], [1, 10, 11, 2], [1, 0, 0, 2]]
    for seed in range(5):
        found = compose("clustered", texts, SPECIAL, 2, seed)
        assert found.tolist() == greedy(texts, 2, -1, seed)


def test_length_sorts_and_the_seed_breaks_ties():
    texts = topical_texts()
    order = compose("length", texts, SPECIAL, 5, seed=7).tolist()
    lengths = [len(texts[i]) for i in order]
    assert lengths == sorted(lengths)
    drawn = permuted(7)(len(texts)).tolist()
    for length in set(lengths):
        ties = [i for i in order if len(texts[i]) == length]
        assert ties == [i for i in drawn if len(texts[i]) == length]


def test_composition_summary(settings):
    for task in ("mnli", "ner", "stsb"):
        file = settings.paths.compositions(NAME, task)
        by_strategy = {s: metrics_of(file, "runs", strategy=s) for s in STRATEGIES}
        assert by_strategy["random"] == metrics_of(settings.paths.scores(NAME, task), "scores")
        assert all(found.keys() == by_strategy["random"].keys() for found in by_strategy.values())
    # The last task's are correlations, which hardly coincide by chance.
    assert all(by_strategy[s] != by_strategy["random"] for s in STRATEGIES[1:])


def test_groups_are_the_strategys(settings):
    """The score by length is that of predicting each group of neighbours in length by itself."""
    task, tokenizer = TASKS["stsb"], read_tokenizer(settings)
    data = read_task("stsb", "validation", settings)
    rows = tokenize_task(task, data, tokenizer, settings.task_length)
    model = load_model("regression", Path(settings.paths.finetuned(NAME, "stsb", 1)).parent).eval()
    drawn = permuted(SEEDS[0])(ROWS).tolist()
    order = sorted(drawn, key=lambda i: len(rows[i]["input_ids"]))
    filled = completed(order, N)
    values = {}
    for start in range(0, len(filled), N):
        group = filled[start : start + N]
        batch = PadRows(tokenizer.pad_token_id)([rows[i] for i in group])
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"]).logits
        for i, value in zip(group, logits, strict=True):
            values.setdefault(i, float(value))
    expected = scipy.stats.pearsonr([values[i] for i in range(ROWS)], list(data["label"])).statistic
    found = metrics_of(settings.paths.compositions(NAME, "stsb"), "runs", strategy="length")
    assert found[1, SEEDS[0]]["pearson"] == pytest.approx(expected, abs=1e-5)


# --- Muxology ------------------------------------------------------------------------------------


def mixture(model, rows):
    """N rows of ids (N, L) to one sequence of embeddings (L, E), by equations (1) and (2)."""
    embeddings, keys = model.get_input_embeddings().weight, model.multiplexer.keys
    return (
        sum(embeddings[row] * key for row, key in zip(rows, keys, strict=True)) / len(keys) ** 0.5
    )


def bert_by_hand(bert, embedded):
    """Mean |hidden state| and entropy of each layer for one sequence of embeddings (L, E)."""
    x = bert.embeddings(inputs_embeds=embedded[None])[0]
    activations, entropies = [], []
    for layer in bert.encoder.layer:
        attention = layer.attention.self
        queries, keys = attention.query(x), attention.key(x)
        width = attention.attention_head_size
        entropy = []
        for head in range(attention.num_attention_heads):
            own = slice(head * width, (head + 1) * width)
            weights = torch.softmax(queries[:, own] @ keys[:, own].T / math.sqrt(width), dim=-1)
            assert torch.allclose(weights.sum(-1), torch.ones(len(x)))
            entropy += [float(scipy.stats.entropy(position)) for position in weights.numpy()]
        entropies.append(sum(entropy) / len(entropy))
        x = layer(x[None])[0]
        activations.append(float(x.abs().sum() / x.numel()))
    return activations, entropies


def mean_by_layer(sequences):
    return [sum(layer) / len(layer) for layer in zip(*sequences, strict=True)]


def close(values):
    return pytest.approx(values, rel=1e-4)


def plain(model_class, encoder):
    torch.manual_seed(0)
    model = model_class(make_config(encoder).encoder).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@torch.no_grad()
@pytest.mark.parametrize("demultiplexer", ["rsa", "prefix"])
def test_layer_means_of_multiplexed_models(demultiplexer, ids):
    model = build(MuxModel, demultiplexer=demultiplexer)
    filled = ids[[0, 1, 2, 3, 4, 5, 6, 6, 6]]  # 7 rows in three groups: the last stands in for two
    sequences = [mixture(model, filled[start : start + 3]) for start in (0, 3, 6)]
    if demultiplexer == "prefix":
        prefix = mixture(model, torch.tensor([[50, 53, 53], [53, 51, 53], [53, 53, 52]]))
        sequences = [torch.cat([prefix, sequence]) for sequence in sequences]
    by_hand = [bert_by_hand(model.encoder, sequence) for sequence in sequences]
    found = layer_means(model, ids, 3)
    for values, expected in zip(found, zip(*by_hand, strict=True), strict=True):
        assert values == close(mean_by_layer(expected))


@torch.no_grad()
def test_layer_means_of_a_plain_model(ids):
    model = plain(BertModel, "bert")
    embedded = model.get_input_embeddings()(ids)
    by_hand = [bert_by_hand(model, row) for row in embedded]
    found = layer_means(model, ids, 1)
    for values, expected in zip(found, zip(*by_hand, strict=True), strict=True):
        assert values == close(mean_by_layer(expected))


@torch.no_grad()
@pytest.mark.parametrize(
    ("model_class", "encoder"), [(ElectraModel, "electra"), (ModernBertModel, "modernbert")]
)
def test_layer_means_of_other_encoders(model_class, encoder, ids):
    """Against what transformers hands out; attention that is blocked (sliding windows) counts 0."""
    model = plain(model_class, encoder)
    model.set_attn_implementation("eager")
    outputs = model(ids, output_attentions=True, output_hidden_states=True)
    activations, entropy = layer_means(model, ids, 1)
    for layer, weights in enumerate(outputs.attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert entropy[layer] == close(scipy.stats.entropy(weights, axis=-1).mean())
        assert activations[layer] == close(float(outputs.hidden_states[layer + 1].abs().mean()))
    assert len(entropy) == model.config.num_hidden_layers


@pytest.mark.parametrize(("demultiplexer", "positions"), [("rsa", 12), ("prefix", 12 + 3)])
def test_uniform_attention_has_the_entropy_of_its_length(demultiplexer, positions, ids):
    model = build(MuxModel, demultiplexer=demultiplexer)
    for layer in model.encoder.encoder.layer:
        torch.nn.init.zeros_(layer.attention.self.query.weight)
        torch.nn.init.zeros_(layer.attention.self.query.bias)
    assert layer_means(model, ids, 3)[1] == close([math.log(positions)] * 2)


def test_batches_do_not_change_the_means(ids, monkeypatch):
    model = build(MuxModel)
    at_once = layer_means(model, ids[:6], 3)
    monkeypatch.setattr(muxology, "GROUPS", 1)
    for one_by_one, together in zip(layer_means(model, ids[:6], 3), at_once, strict=True):
        assert one_by_one == close(together)


@pytest.mark.parametrize(
    ("name", "stage", "objective"),
    [
        ("bert-base", "pretrain", "mlm"),
        ("electra-base", "pretrain", "rtd"),
        (NAME, "pretrain", "mlm"),
        ("tmux-base-n3", "prime", "retrieval"),
    ],
)
def test_muxology_summary(name, stage, objective, settings, monkeypatch):
    """Of the last checkpoint before fine-tuning, on the same random blocks for every model."""
    path = settings.paths.checkpoint(stage, name)
    save_random(settings, name, objective, path)
    monkeypatch.setattr(muxology, "BLOCKS", 6)
    write_muxology(settings, name)
    summary = read_json(settings.paths.muxology(name))
    n = settings.variants[name].n
    assert (summary["model"], summary["instances"], summary["layers"]) == (name, n, 2)
    assert summary["blocks"] == 6
    blocks = read_blocks(settings, "muxology")
    chosen = permuted(muxology.SEED)(len(blocks))[:6]
    ids = torch.tensor(blocks[chosen].astype(int))
    activations, entropy = layer_means(load_model(objective, Path(path).parent), ids, n)
    assert summary["activations"] == close(activations)
    assert summary["entropy"] == close(entropy)
