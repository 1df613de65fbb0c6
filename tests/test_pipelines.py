"""Multiplexed models in transformers' pipelines: grouping, composition, and other models as before."""

import pytest
import torch
from conftest import WORDS, build, make_config
from transformers import BertForSequenceClassification, BertTokenizerFast, pipeline

from muxplm.grouping import duplicated, shuffled
from muxplm.models.modeling import (
    MuxForMaskedLM,
    MuxForSequenceClassification,
    MuxForTokenClassification,
)
from muxplm.pipelines import MuxTextClassificationPipeline

N = 3


@pytest.fixture(scope="module")
def texts():
    """Different lengths, so that padding differs from batch to batch; no multiple of N."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 12, (70,), generator=generator).tolist()
    return [
        " ".join(WORDS[i] for i in torch.randint(45, (length,), generator=generator))
        for length in lengths
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """A saved model for each pipeline, as a user would name it."""
    found = {}
    for task, head in (
        ("text-classification", MuxForSequenceClassification),
        ("token-classification", MuxForTokenClassification),
        ("fill-mask", MuxForMaskedLM),
    ):
        found[task] = str(tmp_path_factory.mktemp(task))
        build(head, n=N, num_labels=3).save_pretrained(found[task])
        tokenizer.save_pretrained(found[task])
    return found


def close(found, expected):
    """The same labels and words, scores within 1e-5."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            close(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    elif isinstance(expected, str | int | None):
        assert found == expected
    else:
        assert float(found) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"composition_seed": 3}, {"copies": 2}])
@pytest.mark.parametrize("task", ["text-classification", "token-classification", "fill-mask"])
def test_answers_do_not_depend_on_the_batch_size(task, settings, folder, texts):
    answer = pipeline(task, folder[task], device="cpu")
    inputs = [f"{text} [MASK]" for text in texts] if task == "fill-mask" else texts
    alone = answer(inputs, batch_size=1, **settings)
    assert len(alone) == len(inputs)
    for size in (7, 64):
        close(answer(inputs, batch_size=size, **settings), alone)


def scores(model, tokenizer, group):
    """What the model itself says of one group of rows."""
    batch = tokenizer(group, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(batch["input_ids"], batch["attention_mask"]).logits.softmax(-1)


def by_hand(model, tokenizer, composed):
    """Group by group, the last one completed with its own rows: (len(composed), labels)."""
    found = []
    for start in range(0, len(composed), N):
        group = composed[start : start + N]
        filled = (group * N)[:N]
        found.extend(scores(model, tokenizer, filled)[: len(group)])
    return torch.stack(found)


@pytest.mark.parametrize("seed", [None, 5])
def test_groups_are_neighbours_or_shuffled(seed, folder, texts, tokenizer):
    answer = pipeline("text-classification", folder["text-classification"], device="cpu")
    found = answer(texts, batch_size=16, composition_seed=seed, top_k=None)
    order = list(range(len(texts))) if seed is None else shuffled(len(texts), seed).tolist()
    expected = by_hand(answer.model, tokenizer, [texts[i] for i in order])
    for i, row in zip(order, expected, strict=True):
        by_label = {entry["label"]: entry["score"] for entry in found[i]}
        assert [by_label[f"LABEL_{k}"] for k in range(3)] == pytest.approx(row.tolist(), abs=1e-5)


def test_copies_average_logits_not_probabilities(folder, texts, tokenizer):
    answer = pipeline("text-classification", folder["text-classification"], device="cpu")
    found = answer(texts[:10], batch_size=4, copies=3, composition_seed=2, top_k=None)
    order = duplicated(10, 3, 2).tolist()
    logits = by_hand(answer.model, tokenizer, [texts[i] for i in order]).log()
    for row in range(10):
        mean = logits[[at for at, i in enumerate(order) if i == row]].mean(0).softmax(-1)
        by_label = {entry["label"]: entry["score"] for entry in found[row]}
        assert [by_label[f"LABEL_{k}"] for k in range(3)] == pytest.approx(mean.tolist(), abs=1e-5)


def test_a_single_input_is_a_group_of_its_own(folder, texts, tokenizer):
    answer = pipeline("text-classification", folder["text-classification"], device="cpu")
    found = answer(texts[0], top_k=None)
    expected = scores(answer.model, tokenizer, [texts[0]] * N)[0]
    assert found[0]["score"] == pytest.approx(expected.max().item(), abs=1e-6)
    close(answer(texts[0], top_k=None), found)
    close(answer([texts[0]], top_k=None)[0], found)
    ensembled = answer(texts[0], copies=N, top_k=None)
    mean = scores(answer.model, tokenizer, [texts[0]] * N).log().mean(0).softmax(-1)
    assert ensembled[0]["score"] == pytest.approx(mean.max().item(), abs=1e-6)


def test_a_generator_is_answered_as_a_list_is(folder, texts):
    answer = pipeline("text-classification", folder["text-classification"], device="cpu")
    close(list(answer((text for text in texts), batch_size=8)), answer(texts, batch_size=8))
    with pytest.raises(ValueError, match="composition_seed and copies need a list"):
        list(answer((text for text in texts), composition_seed=1))


def test_segments_of_another_tokenizer_are_dropped(folder, tokenizer, texts):
    """bert-base-uncased's tokenizer gives token types, which multiplexed models do not take."""
    plain = pipeline("text-classification", folder["text-classification"], device="cpu")
    with_types = BertTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with_types.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    other = pipeline("text-classification", plain.model, tokenizer=with_types, device="cpu")
    close(other(texts[:5]), plain(texts[:5]))


def test_rows_are_padded_to_one_length_where_padding_is_seen(tokenizer, texts):
    """Released models attend to padding; batches of other sizes must not pad otherwise."""
    model = build(MuxForSequenceClassification, n=N, dialect="released", padded_length=20)
    answer = pipeline("text-classification", model, tokenizer=tokenizer, device="cpu")
    close(answer(texts, batch_size=64), answer(texts, batch_size=1))
    batch = tokenizer(texts[:N], padding="max_length", max_length=20, return_tensors="pt")
    with torch.no_grad():
        expected = model(batch["input_ids"], batch["attention_mask"]).logits.softmax(-1).amax(-1)
    found = [entry["score"] for entry in answer(texts[:N])]
    assert found == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [({}, 40), ({"demultiplexer": "prefix"}, 40 - N), ({"padded_length": 20}, 20)],
)
def test_inputs_longer_than_the_model_takes(changes, limit, tokenizer, texts):
    """45 words: refused in one sentence, or cut to what fits."""
    long = " ".join(WORDS)
    model = build(MuxForSequenceClassification, n=N, **changes)
    answer = pipeline("text-classification", model, tokenizer=tokenizer, device="cpu")
    with pytest.raises(ValueError, match=f"47 tokens and this model takes {limit}: shorten"):
        answer(long)
    fitting = " ".join(WORDS[: limit - 2])  # and [CLS], [SEP]
    close(answer(long, truncation=True), answer(fitting))


def test_a_tagger_cuts_what_is_too_long_as_transformers_does(tokenizer):
    model = build(MuxForTokenClassification, n=N, num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    tag = pipeline("token-classification", model, tokenizer=tokenizer, device="cpu")
    close(tag(" ".join(WORDS)), tag(" ".join(WORDS[:38])))


def test_other_models_keep_their_pipeline(tokenizer, texts):
    torch.manual_seed(0)
    plain = BertForSequenceClassification(make_config().encoder).eval()
    answer = pipeline("text-classification", plain, tokenizer=tokenizer, device="cpu")
    assert isinstance(answer, MuxTextClassificationPipeline)
    batch = tokenizer(texts[:4], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = plain(**batch).logits.softmax(-1).amax(-1)
    found = answer(texts[:4], batch_size=4)
    assert [entry["score"] for entry in found] == pytest.approx(expected.tolist(), abs=1e-5)
