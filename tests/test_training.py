"""Corruption and collation against their definitions; metrics against values worked out by hand."""

import numpy as np
import pytest
import torch
from conftest import build
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from muxplm.data.collation import (
    MaskTokens,
    PadRows,
    ReplaceTokens,
    collate_retrieval,
    tokenize_task,
)
from muxplm.evaluation.metrics import majority, score
from muxplm.evaluation.score import predict
from muxplm.models.modeling import (
    MuxForSequenceClassification,
    MuxForTokenClassification,
    MuxForTokenRetrieval,
)
from muxplm.settings import Training
from muxplm.tasks import TASKS
from muxplm.training.stages import score_masked_positions_only
from muxplm.training.trainer import EVALUATIONS, last_whole_checkpoint, train

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "doctor", "help", "##s", "boy"]


@pytest.fixture(scope="module")
def tokenizer():
    words = SPECIAL + WORDS + [f"w{i}" for i in range(200)]
    vocabulary = {word: i for i, word in enumerate(words)}
    return BertTokenizer(vocab=vocabulary, model_input_names=["input_ids", "attention_mask"])


@pytest.fixture
def blocks():
    """400 blocks of [CLS], 30 words, [SEP]."""
    words = np.random.default_rng(0).integers(10, 210, (400, 30))
    ends = np.full((400, 1), 1)
    return list(np.hstack([2 * ends, words, 3 * ends]).astype(np.uint16))


def share(event, of):
    return (event & of).sum().item() / of.sum().item()


def test_masking_is_80_10_10_of_15_percent(tokenizer, blocks):
    torch.manual_seed(0)
    original = torch.from_numpy(np.stack(blocks).astype(np.int64))
    batch = MaskTokens(tokenizer, 0.15)(blocks)
    ids, labels = batch["input_ids"], batch["labels"]
    chosen = labels != -100
    words = original >= 10
    assert not chosen[~words].any()
    assert torch.equal(labels[chosen], original[chosen])
    assert torch.equal(ids[~chosen], original[~chosen])
    # 12 000 words, 1 800 chosen: bounds of about five standard errors.
    assert share(chosen, words) == pytest.approx(0.15, abs=0.017)
    assert share(ids == 4, chosen) == pytest.approx(0.8, abs=0.05)
    assert share(ids == original, chosen) == pytest.approx(0.1, abs=0.04)


def test_replacement_is_uniform_and_labels_what_differs(tokenizer, blocks):
    torch.manual_seed(0)
    original = torch.from_numpy(np.stack(blocks).astype(np.int64))
    batch = ReplaceTokens(tokenizer, 0.15)(blocks)
    ids, labels = batch["input_ids"], batch["labels"].bool()
    words = original >= 10
    assert torch.equal(labels, ids != original)
    assert not labels[~words].any()
    assert share(labels, words) == pytest.approx(0.15 * (1 - 1 / 210), abs=0.017)
    drawn = torch.bincount(ids[labels], minlength=210).float()
    assert drawn.max() < 30  # 1 800 draws over 210 ids: 8.6 each


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
    batch = MaskTokens(tokenizer, 0.15)(blocks[:8])
    full = model(**batch)
    full.loss.backward()
    gradient = model.bert.embeddings.word_embeddings.weight.grad.clone()
    model.zero_grad()
    score_masked_positions_only(model)
    sparse = model(**batch)
    sparse["loss"].backward()
    torch.testing.assert_close(sparse["loss"], full.loss)
    torch.testing.assert_close(model.bert.embeddings.word_embeddings.weight.grad, gradient)
    assert len(sparse["logits"]) == (batch["labels"] != -100).sum()


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


# --- The validation loss in the course of a training -------------------------------------------


@pytest.fixture
def one_thread():
    """On models this small threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start(objective, tokenizer):
    """A small model with dropout, its collator and N: both draw random numbers in training."""
    torch.manual_seed(0)
    if objective == "retrieval":
        return build(MuxForTokenRetrieval, n=2), collate_retrieval, 2
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, **sizes)
    return BertForMaskedLM(config), MaskTokens(tokenizer, 0.15), 1


def run(objective, tokenizer, blocks, scratch, validation=None, dataset=None, **changes):
    """Trains for 20 steps; returns the weights and both logs."""
    model, collate, n = start(objective, tokenizer)
    training = Training(
        **{"steps": 20, "rows": 4, "learning_rate": 0.01, "save_every": 100} | changes
    )
    logs = train(
        model,
        dataset or blocks,
        collate,
        training,
        steps=training.steps,
        instances=n,
        seed=3,
        precision="fp32",
        scratch=scratch,
        title=objective,
        validation=validation,
    )
    return model.state_dict(), *logs


def same_weights(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def few(blocks, one_thread):
    """Blocks whose ids every model of this section knows."""
    return [block % 50 + 5 for block in blocks]


@pytest.mark.parametrize("objective", ["retrieval", "mlm"])
def test_looking_at_the_validation_loss_changes_no_weight(objective, tokenizer, few, tmp_path):
    with_it, log, validation_log = run(objective, tokenizer, few, tmp_path / "1", few[:20])
    without, same_log, nothing = run(objective, tokenizer, few, tmp_path / "2")
    assert same_weights(with_it, without)
    assert [entry["loss"] for entry in log] == [entry["loss"] for entry in same_log]
    assert nothing == []
    # Every third step is the eighth part of 20, rounded up; the end comes on top.
    assert [entry["step"] for entry in validation_log] == [3, 6, 9, 12, 15, 18, 20]
    assert len(validation_log) <= EVALUATIONS
    assert validation_log[-1]["loss"] < validation_log[0]["loss"]


@pytest.mark.parametrize("objective", ["retrieval", "mlm"])
def test_every_evaluation_draws_the_same_masks_and_instances(objective, tokenizer, few, tmp_path):
    standing_still = {"learning_rate": 1e-12}
    _, _, log = run(objective, tokenizer, few, tmp_path, few[:20], **standing_still)
    assert [entry["loss"] for entry in log] == pytest.approx(7 * [log[0]["loss"]], abs=1e-6)


class Killed(list):
    """A data set that can be read only so many times."""

    left = 50

    def __getitem__(self, index):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_a_killed_training_goes_on_to_the_same_end(tokenizer, few, tmp_path):
    """To the bit, since the collator draws nothing: the batch that is prefetched is drawn anew."""
    validation, scratch = few[:20], tmp_path / "2"
    whole = run("retrieval", tokenizer, few, tmp_path / "1", validation)
    with pytest.raises(KeyboardInterrupt):
        run("retrieval", tokenizer, few, scratch, validation, Killed(few), save_every=5)
    assert last_whole_checkpoint(scratch).endswith("checkpoint-5")
    resumed = run("retrieval", tokenizer, few, scratch, validation)
    assert same_weights(resumed[0], whole[0])
    assert resumed[2] == whole[2]
