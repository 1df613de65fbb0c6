"""Corruption and collation against their definitions; metrics against values worked out by hand."""

from functools import partial

import numpy as np
import pytest
import torch
from conftest import build
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from muxplm.data.collation import MaskTokens, PadRows, ReplaceTokens, tokenize_task, uniform
from muxplm.evaluation.metrics import majority, score
from muxplm.evaluation.score import predict
from muxplm.models.modeling import (
    MuxForSequenceClassification,
    MuxForTokenClassification,
)
from muxplm.tasks import TASKS
from muxplm.training.losses import part_of_loss

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "doctor", "help", "##s", "boy"]


@pytest.fixture(scope="module")
def tokenizer():
    words = SPECIAL + WORDS + [f"w{i}" for i in range(200)]
    vocabulary = {word: i for i, word in enumerate(words)}
    return BertTokenizer(vocab=vocabulary, model_input_names=["input_ids", "attention_mask"])


@pytest.fixture
def blocks():
    """400 blocks of [CLS], 38 words, [SEP]."""
    words = np.random.default_rng(0).integers(10, 210, (400, 38))
    ends = np.full((400, 1), 1)
    return np.hstack([2 * ends, words, 3 * ends]).astype(np.uint16)


def corrupt(collate, blocks, first=0):
    """(original ids, ids, labels)"""
    batch = collate(blocks, partial(uniform, (5, 0), first, len(blocks)))
    original = torch.from_numpy(np.stack(blocks).astype(np.int64))
    return original, batch["input_ids"], batch["labels"]


def share(event, of):
    return (event & of).sum().item() / of.sum().item()


@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_masking_is_80_10_10_of_the_same_number_in_each_row(rate, tokenizer, blocks):
    original, ids, labels = corrupt(MaskTokens(tokenizer, rate), blocks)
    chosen = labels != -100
    words = original >= 10
    assert not chosen[~words].any()
    assert torch.equal(labels[chosen], original[chosen])
    assert torch.equal(ids[~chosen], original[~chosen])
    assert (chosen.sum(1) == rate * 40).all()
    # 2 400 chosen or more, 63 at each position or more: bounds of about five standard errors.
    assert share(ids == 4, chosen) == pytest.approx(0.8, abs=0.04)
    assert share(ids == original, chosen) == pytest.approx(0.1, abs=0.031)
    often = chosen[:, 1:-1].float().mean(0)
    assert (often - rate * 40 / 38).abs().max() < 0.11
    drawn = torch.bincount(ids[chosen & (ids != 4) & (ids != original)], minlength=210).float()
    assert drawn.max() < 30 * (rate / 0.15) and (drawn[:10].sum() > 0)


def test_rows_with_little_to_mask(tokenizer, blocks):
    """Four positions of ten are wanted; a row of [SEP] alone has none, one with two words two."""
    rows = np.full((3, 10), 3)
    rows[1, 4:6], rows[2] = 20, 30
    _, ids, labels = corrupt(MaskTokens(tokenizer, 0.4), rows)
    assert (labels != -100).sum(1).tolist() == [0, 2, 4]
    assert torch.equal(ids[0], torch.full((10,), 3))
    one, _, labels = corrupt(MaskTokens(tokenizer, 0.01), blocks)
    assert (labels != -100).sum() == len(one)


@pytest.mark.parametrize("corruption", [MaskTokens, ReplaceTokens])
def test_a_row_is_corrupted_in_the_same_way_in_any_batch(corruption, tokenizer, blocks):
    collate = corruption(tokenizer, 0.15)
    _, ids, labels = corrupt(collate, blocks)
    for first, last in ((0, 7), (7, 8), (100, 400)):
        _, part, of_part = corrupt(collate, blocks[first:last], first)
        assert torch.equal(part, ids[first:last]) and torch.equal(of_part, labels[first:last])
    assert not torch.equal(corrupt(collate, blocks[:7], 1)[1], ids[:7])


def test_replacement_is_uniform_and_labels_what_differs(tokenizer, blocks):
    original, ids, labels = corrupt(ReplaceTokens(tokenizer, 0.15), blocks)
    labels, words = labels.bool(), original >= 10
    assert torch.equal(labels, ids != original)
    assert not labels[~words].any()
    assert share(labels, words) == pytest.approx(0.15 * (1 - 1 / 210), abs=0.015)
    drawn = torch.bincount(ids[labels], minlength=210).float()
    assert drawn.max() < 32  # 2 280 draws over 210 ids: 10.9 each


def test_tags_stand_on_the_first_piece_of_a_word(tokenizer):
    data = {"tokens": [["the", "doctor", "helps", "boy"]], "upos": [[8, 0, 16, 0]]}
    (row,) = tokenize_task(TASKS["pos"], data, tokenizer, 32)
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == [
        *("[CLS]", "the", "doctor", "help", "##s", "boy", "[SEP]")
    ]
    assert row["labels"] == [-100, 8, 0, 16, -100, 0, -100]


def test_padding_reaches_the_longest_row():
    rows = [{"input_ids": [2, 7, 3], "labels": [-100, 1, -100]}]
    rows += [{"input_ids": [2, 7, 8, 9, 3], "labels": [-100, 1, 0, 1, -100]}]
    batch = PadRows(0)(rows)
    assert batch["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 7, 8, 9, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["labels"].tolist() == [[-100, 1, -100, -100, -100], [-100, 1, 0, 1, -100]]


def test_scoring_masked_positions_only_is_the_same_loss(tokenizer, blocks):
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config)
    _, ids, labels = corrupt(MaskTokens(tokenizer, 0.15), blocks[:8])
    batch = {"input_ids": ids, "labels": labels}
    full = model(**batch)
    full.loss.backward()
    gradient = model.bert.embeddings.word_embeddings.weight.grad.clone()
    model.zero_grad()
    scored = []
    model.cls.predictions.transform.register_forward_hook(lambda *call: scored.append(call[-1]))
    loss = part_of_loss(model, batch, (1.0, 0.0))
    loss.backward()
    torch.testing.assert_close(loss, full.loss)
    torch.testing.assert_close(model.bert.embeddings.word_embeddings.weight.grad, gradient)
    assert [len(scores) for scores in scored] == [(labels != -100).sum()]


def test_classification_metrics_by_hand():
    found = score(TASKS["cola"], [1, 1, 0, 0, 1], [1, 0, 0, 1, 1])
    # 2 true positives, 1 true negative, 1 false positive, 1 false negative.
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["f1"] == pytest.approx(4 / 6)
    assert found["matthews"] == pytest.approx((2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5)


def test_spearman_sees_order_alone_and_a_constant_scores_zero():
    assert score(TASKS["stsb"], [1.0, 10.0, 100.0], [0.1, 0.2, 0.3])["spearman"] == 1
    assert score(TASKS["stsb"], [2.0, 2.0, 2.0], [0.1, 0.2, 0.3])["spearman"] == 0


def test_ner_counts_whole_entities():
    b, i = TASKS["ner"].labels.index("B-PER"), TASKS["ner"].labels.index("I-PER")
    found = score(TASKS["ner"], [[b, 0, 0, b]], [[b, i, 0, b]])
    assert found["seqeval_f1"] == pytest.approx(1 / 2)  # one of two entities is whole
    assert found["token_f1"] == pytest.approx(3 / 4)


def test_pos_is_scored_both_ways():
    """seqeval merges neighbours of one tag: a tag wrong inside a run costs the whole run."""
    noun, verb = TASKS["pos"].labels.index("NOUN"), TASKS["pos"].labels.index("VERB")
    found = score(TASKS["pos"], [[noun, verb, noun, verb]], [[noun, noun, noun, verb]])
    assert found["token_f1"] == pytest.approx(3 / 4)
    assert found["seqeval_f1"] == pytest.approx(2 / 6)  # found 4 runs, there are 2, one is right


def test_majority_answers_the_training_sets_most_frequent_label():
    assert majority(TASKS["sst2"], [1, 1, 0], [0, 0, 1, 0])["accuracy"] == 1 / 4
    assert majority(TASKS["stsb"], [1.0, 3.0], [0.0, 5.0])["spearman"] == 0


@pytest.mark.parametrize("kind", ["sst2", "pos"])
def test_predictions_come_back_in_the_order_of_the_rows(kind, ids, mask):
    """At N = 1 the composition cannot matter; at N = 3 it does, and the order is still the rows'."""
    tagging = kind == "pos"
    head = MuxForTokenClassification if tagging else MuxForSequenceClassification
    lengths = mask.sum(1).tolist()
    rows = [
        {"input_ids": row[:n].tolist(), "labels": [0] * n if tagging else 0}
        for row, n in zip(ids, lengths, strict=True)
    ]
    straight, shuffled = list(range(7)), [3, 0, 6, 2, 5, 1, 4]

    def run(n, order):
        model = build(head, n=n, num_labels=5)
        return predict(model, TASKS[kind], rows, order, n, PadRows(0), "fp32")

    assert run(1, straight) == run(1, shuffled)
    model = build(head, n=3, num_labels=5)
    chosen = shuffled[:3]
    batch = PadRows(0)([rows[i] for i in chosen])
    best = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
    found = run(3, shuffled)
    for i, prediction in zip(chosen, best, strict=True):
        expected = prediction[: lengths[i]].tolist() if tagging else prediction.item()
        assert found[i] == expected
    if tagging:
        assert [len(tags) for tags in found] == lengths
