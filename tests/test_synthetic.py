"""The synthetic language: its tables, and labels derived again by rules that share no code."""

import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from itertools import islice

import numpy as np
import pytest
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from muxplm.data import synthetic
from muxplm.data.synthetic import lexicon

COLUMNS = {
    "cola": ["sentence", "label", "idx"],
    "sst2": ["sentence", "label", "idx"],
    "mrpc": ["sentence1", "sentence2", "label", "idx"],
    "stsb": ["sentence1", "sentence2", "label", "idx"],
    "qqp": ["question1", "question2", "label", "idx"],
    "mnli": ["premise", "hypothesis", "label", "idx"],
    "qnli": ["question", "sentence", "label", "idx"],
    "rte": ["sentence1", "sentence2", "label", "idx"],
    "wnli": ["sentence1", "sentence2", "label", "idx"],
    "ner": ["id", "tokens", "pos_tags", "ner_tags"],
    "pos": ["id", "tokens", "upos"],
}
LABELS = {"mnli": {0, 1, 2}, **{name: {0, 1} for name in COLUMNS if name not in ("mnli", "stsb")}}
PAIRS = ("mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
UPOS = {
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
}


@cache
def rows(name: str):
    return synthetic.task(name, 1500, 500, seed=3)


def texts(split: dict[str, list]) -> list[tuple[str, ...]]:
    """Each row's text columns; a row of tokens as one text."""
    if "tokens" in split:
        return [(" ".join(tokens),) for tokens in split["tokens"]]
    return list(zip(*(v for v in split.values() if isinstance(v[0], str)), strict=True))


@cache
def corpus_words() -> frozenset[str]:
    return frozenset(word for text in synthetic.corpus(20000, 0) for word in text.split())


# ---- tables


def test_tasks_are_the_eleven():
    assert tuple(COLUMNS) == synthetic.TASKS


@pytest.mark.parametrize("name", synthetic.TASKS)
def test_columns_and_types(name):
    splits = rows(name)
    ends = ("validation_matched", "validation_mismatched") if name == "mnli" else ("validation",)
    assert list(splits) == ["train", *ends]
    for split, table in splits.items():
        assert list(table) == COLUMNS[name]
        assert {len(values) for values in table.values()} == {1500 if split == "train" else 500}
        if "tokens" in table:
            assert table["id"] == [str(i) for i in range(len(table["id"]))]
            tags = [table[column] for column in COLUMNS[name][2:]]
            for tokens, *others in zip(table["tokens"], *tags, strict=True):
                assert {len(tokens)} == {len(other) for other in others}
            continue
        assert table["idx"] == list(range(len(table["idx"])))
        kind = float if name == "stsb" else int
        assert {type(label) for label in table["label"]} == {kind}
        if name == "stsb":
            assert min(table["label"]) >= 0 and max(table["label"]) <= 5
        else:
            assert set(table["label"]) == LABELS[name]
    if name == "pos":
        assert {tag for tags in splits["train"]["upos"] for tag in tags} <= UPOS


@pytest.mark.parametrize(
    "name", [n for n in synthetic.TASKS if n in LABELS and n[:2] != "ne" and n != "pos"]
)
def test_no_class_is_rare(name):
    for table in rows(name).values():
        counts = np.bincount(table["label"])
        assert counts.min() >= 0.25 * counts.sum()


@pytest.mark.parametrize("name", synthetic.TASKS)
def test_no_text_occurs_in_two_splits_or_twice(name):
    everything = [text for table in rows(name).values() for text in texts(table)]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("name", synthetic.TASKS)
def test_rows_fit_32_tokens(name):
    for table in rows(name).values():
        for parts in texts(table):
            assert 1 + sum(len(part.split()) + 1 for part in parts) <= 32


@pytest.mark.parametrize("name", synthetic.TASKS)
def test_the_corpus_has_every_word(name):
    for table in rows(name).values():
        missing = {w for parts in texts(table) for part in parts for w in part.split()}
        assert not missing - corpus_words()


def test_vocabulary_is_small():
    assert 350 < len(corpus_words()) < 700


def test_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="'mnli'"):
        synthetic.task("mlni", 1, 1, 0)


def test_too_many_rows_are_refused():
    with pytest.raises(ValueError, match="wnli"):
        synthetic.task("wnli", 4000, 1, 0)


DIGEST = """
import hashlib, json
from muxplm.data import synthetic
made = [synthetic.task(name, 40, 20, 5) for name in synthetic.TASKS] + list(
    synthetic.corpus(50, 5))
print(hashlib.sha256(json.dumps(made).encode()).hexdigest())
"""


def test_same_seed_same_language_in_any_process():
    made = [synthetic.task(name, 40, 20, 5) for name in synthetic.TASKS]
    made += list(synthetic.corpus(50, 5))
    here = hashlib.sha256(json.dumps(made).encode()).hexdigest()
    for hash_seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        there = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=environment,
            text=True,
            capture_output=True,
            check=True,
        )
        assert there.stdout.strip() == here


def test_seeds_and_prefixes():
    assert list(synthetic.corpus(20, 1)) == list(islice(synthetic.corpus(100, 1), 20))
    assert list(synthetic.corpus(20, 1)) != list(synthetic.corpus(20, 2))
    assert synthetic.task("cola", 50, 50, 1) != synthetic.task("cola", 50, 50, 2)


# ---- labels


def words_of(concepts) -> set[str]:
    """All the words in nested tables of concepts."""
    if isinstance(concepts, str):
        return {concepts}
    return {word for inner in concepts for word in words_of(inner)}


TOPICS = lexicon.TOPICS.values()
NOUNS = words_of([[t.people, t.things] for t in TOPICS])
VERBS = words_of([[t.verbs for t in TOPICS], lexicon.PERSON_VERBS])
ADJECTIVES = words_of([[t.modifiers for t in TOPICS], lexicon.COMMON_MODIFIERS])
PLACES = words_of([t.places for t in TOPICS])


KINDS = {
    "this": "d",
    "a": "d",
    "these": "D",
    "many": "D",
    "the": "t",
    "near": "-",
    "in": "+",
    ".": ".",
}
for noun in NOUNS:
    KINDS |= {noun: "n", lexicon.plural(noun): "N"}
for verb in VERBS:
    KINDS |= {verb: "V", lexicon.plural(verb): "v"}
for words, letter in ((ADJECTIVES, "a"), (PLACES, "p"), (lexicon.ADVERBS, "r")):
    KINDS |= dict.fromkeys(words, letter)


def test_cola_labels_are_agreement_and_word_order():
    end = "(dn|DN|t[nN])(\\+tp)?\\."
    acceptable = re.compile(f"([dt]a?n(-t[nN])?r?v|[Dt]a?N(-t[nN])?r?V){end}")
    for table in rows("cola").values():
        for sentence, label in zip(table["sentence"], table["label"], strict=True):
            kinds = "".join(KINDS[word] for word in sentence.split())
            assert bool(acceptable.fullmatch(kinds)) == bool(label), sentence


def opinion(sentence: str) -> int:
    """The sentiment of what follows "but", if anything: a negation turns over all after it."""
    sign, total = 1, 0
    for word in sentence.split(" but ")[-1].split():
        if word in ("not", "nobody"):
            sign = -1
        total += sign * (word in lexicon.POSITIVE + lexicon.LIKED)
        total -= sign * (word in lexicon.NEGATIVE + lexicon.DISLIKED)
    return int(total > 0)


def test_sst2_labels_are_sentiment():
    for table in rows("sst2").values():
        assert [opinion(s) for s in table["sentence"]] == table["label"]


CONCEPT = {}
for topic in TOPICS:
    for concept in topic.people + topic.things + topic.places:
        CONCEPT |= dict.fromkeys(concept, concept[0])
for pairs in [t.verbs + t.modifiers for t in TOPICS] + [
    lexicon.PERSON_VERBS + lexicon.COMMON_MODIFIERS
]:
    for pair in pairs:
        for concept in pair:
            for word in concept:
                CONCEPT[word] = CONCEPT[lexicon.past(word)] = concept[0]
OPPOSITE = {}
for pairs in [t.verbs for t in TOPICS] + [lexicon.PERSON_VERBS]:
    for one, other in pairs:
        OPPOSITE[one[0]], OPPOSITE[other[0]] = other[0], one[0]


def meaning(sentence: str) -> dict:
    """Who, did what, to whom, where and whether not, of one active or passive sentence."""
    tokens = sentence.split()
    place = None
    if "in" in tokens:
        place = CONCEPT[tokens[tokens.index("in") + 2]]
        tokens = tokens[: tokens.index("in")]
    content = [CONCEPT[token] for token in tokens if token in CONCEPT]
    if "by" in tokens:
        object_, verb, *agent = content
    else:
        *agent, verb, object_ = content
    return {
        "agent": agent,
        "verb": verb,
        "object": object_,
        "place": place,
        "negated": "not" in tokens,
    }


def test_mrpc_labels_are_sameness_of_meaning():
    for table in rows("mrpc").values():
        for first, second, label in zip(*(table[c] for c in COLUMNS["mrpc"][:3]), strict=True):
            assert (meaning(first) == meaning(second)) == bool(label), (first, second)


def test_mnli_labels_follow_from_meaning():
    for table in rows("mnli").values():
        for premise, hypothesis, label in zip(
            *(table[c] for c in COLUMNS["mnli"][:3]), strict=True
        ):
            p, h = meaning(premise), meaning(hypothesis)
            told = (
                h["object"] == p["object"]
                and h["place"] in (None, p["place"])
                and h["agent"] in (p["agent"], p["agent"][-1:])
            )
            if not told:
                derived = 1
            elif h["verb"] == p["verb"]:
                derived = 0 if h["negated"] == p["negated"] else 2
            else:
                derived = 2 if h["verb"] == OPPOSITE[p["verb"]] else 1
            assert derived == label, (premise, hypothesis)


def test_stsb_scores_count_the_slots_that_agree():
    for table in rows("stsb").values():
        for first, second, score in zip(*(table[c] for c in COLUMNS["stsb"][:3]), strict=True):
            a, b = meaning(first), meaning(second)
            agreeing = sum(x == y for x, y in zip(a["agent"], b["agent"], strict=True))
            agreeing += sum(a[slot] == b[slot] for slot in ("verb", "object"))
            assert abs(score - 5 * agreeing / 4) < 0.5, (first, second)


def test_ner_spans_are_valid_and_names_need_context():
    names = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
    kinds = {}
    for tokens, tags in zip(
        *(rows("ner")["train"][c] for c in ("tokens", "ner_tags")), strict=True
    ):
        previous = "O"
        for token, tag in zip(tokens, (names[t] for t in tags), strict=True):
            if tag[0] == "I":
                assert previous[2:] == tag[2:]
            kinds.setdefault(token, set()).add(tag[2:])
            previous = tag
    for name in lexicon.seen(lexicon.AMBIGUOUS):
        assert {"PER", "ORG", "LOC"} <= kinds[name]


@pytest.mark.parametrize("name", ["sst2", "ner", "pos"])
def test_validation_has_words_that_training_has_not(name):
    train, validation = (
        {w for parts in texts(table) for part in parts for w in part.split()}
        for table in rows(name).values()
    )
    assert len(validation - train) >= 8


def test_pos_needs_context():
    kinds = {}
    for tokens, tags in zip(*(rows("pos")["train"][c] for c in ("tokens", "upos")), strict=True):
        for token, tag in zip(tokens, tags, strict=True):
            kinds.setdefault(token, set()).add(tag)
    for word in lexicon.seen(lexicon.NOUN_VERBS):
        assert kinds[word] == kinds[lexicon.plural(word)] == {"NOUN", "VERB"}


# ---- bags of words

BAGS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


def baseline(name: str) -> tuple[float, float]:
    """The majority class's accuracy and that of a linear model of the words of each text column.

    For "stsb", the Pearson correlations of a constant (0) and of ridge regression.
    """
    size = 300 if name == "wnli" else 1500
    train, test = list(synthetic.task(name, size, 1000, seed=4).values())[:2]
    columns = [list(zip(*texts(split), strict=True)) for split in (train, test)]
    counters = [CountVectorizer(token_pattern=r"\S+", binary=True).fit(c) for c in columns[0]]
    fitted, tried = (
        hstack([k.transform(c) for k, c in zip(counters, column, strict=True)])
        for column in columns
    )
    if name == "stsb":
        rated = Ridge().fit(fitted, train["label"]).predict(tried)
        return 0.0, float(np.corrcoef(rated, test["label"])[0, 1])
    model = LogisticRegression(max_iter=300).fit(fitted, train["label"])
    majority = np.bincount(test["label"]).max() / len(test["label"])
    return float(majority), float(model.score(tried, test["label"]))


@pytest.mark.parametrize("name", ["cola", "mrpc", "qqp", "mnli", "qnli", "rte"])
def test_a_bag_of_words_stays_near_the_majority(name):
    majority, score = baseline(name)
    assert score < majority + 0.08


def test_a_bag_of_words_does_not_rate_similarity():
    assert baseline("stsb")[1] < 0.3


def test_a_bag_of_words_gets_part_of_sentiment():
    assert 0.55 < baseline("sst2")[1] < 0.85
