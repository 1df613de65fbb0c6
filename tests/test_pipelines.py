"""Multiplexed models in transformers' pipelines: grouping, composition, and other models as before."""

import gc

import pytest
import torch
from conftest import WORDS, build, make_config
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertTokenizer,
    BertTokenizerFast,
    pipeline,
)

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


# --- The way of this module against transformers' own, at N = 1 ----------------------------------

PIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"abcdefgh",
    *(f"##{c}" for c in "abcdefgh"),
)


@pytest.fixture(scope="module")
def pieces():
    """Words are cut into pieces, and pairs have segments; more than 40 tokens do not fit."""
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    return BertTokenizer(vocab=vocabulary, model_max_length=40)


@pytest.fixture(scope="module")
def sentences():
    """Words of one to five pieces, "x" and "." unknown; the last is longer than the model takes."""
    generator = torch.Generator().manual_seed(0)

    def sentence(words):
        letters = torch.randint(9, (words, 5), generator=generator).tolist()
        lengths = torch.randint(1, 6, (words,), generator=generator).tolist()
        return " ".join(
            "".join("abcdefghx"[i] for i in w[:n]) for w, n in zip(letters, lengths, strict=True)
        )

    lengths = torch.randint(1, 8, (30,), generator=generator).tolist()
    return [f"{sentence(n)}." for n in lengths] + [sentence(60)]


def plain(head, task, tokenizer, **names):
    torch.manual_seed(0)
    config = make_config().encoder
    for name, value in names.items():
        setattr(config, name, value)
    model = head(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return pipeline(task, model=model, tokenizer=tokenizer, device="cpu")


@pytest.mark.parametrize(
    "settings",
    [
        {"truncation": True},
        {"truncation": True, "top_k": None},
        {"truncation": True, "top_k": 2, "function_to_apply": "sigmoid"},
        {"truncation": True, "max_length": 7},
        {"truncation": "longest_first", "padding": "max_length", "max_length": 20},
    ],
)
@pytest.mark.parametrize("kind", [None, "multi_label_classification", "regression"])
def test_texts_are_classified_as_by_transformers(settings, kind, pieces, sentences):
    labels = {"problem_type": kind, "num_labels": 1 if kind == "regression" else 3}
    answer = plain(BertForSequenceClassification, "text-classification", pieces, **labels)
    close(answer.answers(sentences, 4, **settings), answer(sentences, batch_size=1, **settings))
    pairs = [
        {"text": a, "text_pair": b} for a, b in zip(sentences[:9], sentences[9:], strict=False)
    ]
    close(answer.answers(pairs, 4, **settings), answer(pairs, batch_size=1, **settings))
    mixed = [*pairs, *sentences]
    close(answer.answers(mixed, 4, **settings), answer(mixed, batch_size=1, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ignore_labels": ["B-X"]},
        {"aggregation_strategy": "simple"},
        {"aggregation_strategy": "first", "ignore_labels": []},
        {"aggregation_strategy": "max"},
        {"aggregation_strategy": "average"},
        {"aggregation_strategy": "simple", "stride": 5},
    ],
)
def test_tokens_are_tagged_as_by_transformers(settings, pieces, sentences):
    names = {"id2label": {0: "O", 1: "B-X", 2: "I-X"}}
    tag = plain(BertForTokenClassification, "token-classification", pieces, **names)
    close(tag.answers(sentences, 4, **settings), tag(sentences, batch_size=1, **settings))
    if "stride" not in settings:
        words = [sentence.split() for sentence in sentences]
        split = {"is_split_into_words": True, **settings}
        close(tag.answers(words, 4, **split), tag(words, batch_size=1, **split))


def test_masks_are_filled_as_by_transformers(pieces, sentences):
    fill = plain(BertForMaskedLM, "fill-mask", pieces)
    masked = [f"[MASK] {sentence}" for sentence in sentences[:-1]]
    close(fill.answers(masked, 4, top_k=3), fill(masked, batch_size=1, top_k=3))
    twice = [f"[MASK] {sentence} [MASK]" for sentence in sentences[:-1]]
    close(fill.answers(twice, 4, targets=["a", "b"]), fill(twice, batch_size=1, targets=["a", "b"]))
    with pytest.raises(Exception, match="No mask_token"):
        fill.answers(["a"], 4)


def test_whole_words_are_what_transformers_joins_by_their_first_piece(pieces, sentences):
    """B-tags alone: aggregation then never joins two words."""
    names = {"id2label": {0: "B-x", 1: "B-y", 2: "B-z"}}
    tag = plain(BertForTokenClassification, "token-classification", pieces, **names)
    expected = tag(sentences, aggregation_strategy="first")
    for text, entities, theirs in zip(
        sentences, tag(sentences, whole_words=True, batch_size=8), expected, strict=True
    ):
        assert [e["entity"][2:] for e in entities] == [e["entity_group"] for e in theirs]
        assert [(e["start"], e["end"]) for e in entities] == [
            (e["start"], e["end"]) for e in theirs
        ]
        assert [e["score"] for e in entities] == pytest.approx([e["score"] for e in theirs])
        assert all(e["word"] == text[e["start"] : e["end"]] for e in entities)
    with pytest.raises(ValueError, match="whole_words takes sentences as they are"):
        tag([["a", "b"]], whole_words=True, is_split_into_words=True)


# --- Groups, whatever their length -----------------------------------------------------------------


def test_groups_of_all_lengths_keep_their_company(folder, texts, tokenizer, monkeypatch):
    """Windows shorter than the list, of no multiple of N; sorting moves groups, not rows."""
    answer = pipeline("text-classification", folder["text-classification"], device="cpu")
    expected = by_hand(answer.model, tokenizer, texts).max(dim=-1).values.tolist()
    monkeypatch.setattr(MuxTextClassificationPipeline, "window", 10)
    for size in (1, 4, 20):
        found = [entry["score"] for entry in answer(texts, batch_size=size)]
        assert found == pytest.approx(expected, abs=1e-5)


def test_little_of_a_batch_is_padding(folder, texts, monkeypatch):
    """Sorted groups need no more positions than groups of their own, but for the last of a batch."""
    answer = pipeline("text-classification", folder["text-classification"], device="cpu")
    positions, forward = [], answer.model.forward

    def counted(input_ids, attention_mask):
        positions.append(input_ids.numel())
        return forward(input_ids, attention_mask)

    monkeypatch.setattr(answer.model, "forward", counted)
    answer(texts, batch_size=1)
    alone = sum(positions)
    positions.clear()
    answer(texts, batch_size=12)
    assert sum(positions) < 1.15 * alone


def test_a_stream_is_answered_as_it_comes(folder, texts):
    """No more is taken from a generator than a batch before the first answer."""
    answer, taken = pipeline("text-classification", folder["text-classification"], device="cpu"), []

    def stream():
        for text in texts:
            taken.append(text)
            yield text

    answers = answer(stream(), batch_size=5)  # 6 are whole groups of 3
    assert next(answers)["score"] == pytest.approx(answer(texts[:3])[0]["score"], abs=1e-5)
    assert len(taken) == 6


@pytest.mark.parametrize("copies", [0, N + 1])
def test_copies_are_at_least_one_and_at_most_n(folder, texts, copies):
    answer = pipeline("text-classification", folder["text-classification"], device="cpu")
    with pytest.raises(ValueError, match=f"copies is {copies}; it must be from 1 to N = 3"):
        answer(texts, copies=copies)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_waits_for_a_window_and_is_left_as_it_was(
    enabled, folder, texts, monkeypatch
):
    """In a pass it is off; between the answers, and after an error, as whoever asks has it."""
    answer = pipeline("text-classification", folder["text-classification"], device="cpu")
    forward, seen = answer.model.forward, []

    def watched(*args, **kwargs):
        seen.append(gc.isenabled())
        if len(seen) > 2:
            raise RuntimeError("the third pass")
        return forward(*args, **kwargs)

    monkeypatch.setattr(answer.model, "forward", watched)
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        between = [gc.isenabled() for _ in answer((text for text in texts[: 2 * N]), batch_size=N)]
        with pytest.raises(RuntimeError, match="the third pass"):
            answer(texts[:N])
        after = gc.isenabled()
    finally:
        (gc.enable if was else gc.disable)()
    assert (seen, between, after) == ([False] * 3, [enabled] * 2 * N, enabled)
