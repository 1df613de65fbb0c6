"""The eleven tasks, in the columns and label encodings of the Hugging Face Hub."""

import difflib
from collections.abc import Callable
from random import Random

from . import grammar, lexicon
from .corpus import answer, cause, joined_pair, question_pair
from .grammar import Tokens

TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ner", "pos")

Row = dict[str, object]
TOPIC_NAMES = tuple(lexicon.TOPICS)
# Pairs are about one of two topics: "the same or not" is then something that a model of two layers can
# learn in a few hundred steps. With six topics it mostly could not (docs/log.md).
PAIR_TOPICS = lexicon.MISMATCHED
# The Hub's integer order for CoNLL-2003.
_PENN = (
    "\" '' # $ ( ) , . : `` CC CD DT EX FW IN JJ JJR JJS LS MD NN NNP NNPS NNS NN|SYM PDT "
    "POS PRP PRP$ RB RBR RBS RP SYM TO UH VB VBD VBG VBN VBP VBZ WDT WP WP$ WRB"
)
PENN = tuple(_PENN.split())
NER = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")


def _part(split: str) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """What of a word list a split may use: training sees a part, validation everything."""
    return lexicon.seen if split == "train" else lambda words: words


def _cola(rng: Random, split: str) -> Row:
    tokens, places = grammar.present(rng)
    acceptable = rng.random() < 0.6
    if not acceptable:
        _break(tokens, places, rng)
    return {"sentence": " ".join(tokens), "label": int(acceptable)}


def _break(tokens: Tokens, places: dict[str, int], rng: Random) -> None:
    """Make one error of agreement or of word order, in place."""
    verb, noun = places["verb"], places["noun"]
    if rng.random() < 0.6:
        base = next(v for c in grammar.VERBS for v in c if tokens[verb] in (v, lexicon.plural(v)))
        tokens[verb] = lexicon.plural(base) if tokens[verb] == base else base
        return
    first = rng.choice([noun - 1, noun, verb])  # determiner or adjective, subject, verb
    tokens[first], tokens[first + 1] = tokens[first + 1], tokens[first]


def _sst2(rng: Random, split: str) -> Row:
    positive = rng.random() < 0.5
    tokens = grammar.review(rng, positive, rng.choice(TOPIC_NAMES), _part(split))
    return {"sentence": " ".join(tokens), "label": int(positive)}


def _pair(columns: tuple[str, str], first: Tokens, second: Tokens, label: float) -> Row:
    return {columns[0]: " ".join(first), columns[1]: " ".join(second), "label": label}


SENTENCES = ("sentence1", "sentence2")


def _mrpc(rng: Random, split: str) -> Row:
    event = grammar.frame(rng, PAIR_TOPICS, negated=0.1)
    same = rng.random() < 0.6
    other = event if same else grammar.differ(event, rng)
    return _pair(SENTENCES, grammar.statement(event, rng), grammar.statement(other, rng), int(same))


def _stsb(rng: Random, split: str) -> Row:
    event = grammar.frame(rng, PAIR_TOPICS, modifier=1, place=0)
    names = ("subject", "verb", "object", "modifier")
    different = rng.sample(names, rng.randint(0, 4))
    other = grammar.elsewhere(event, rng) if len(different) == 4 else event
    for slot in different if other is event else ():
        other = grammar.replace(other, slot, rng)
    agreeing = sum(getattr(event, slot) == getattr(other, slot) for slot in names)
    score = 5 * agreeing / 4 + rng.choice((-0.4, -0.2, 0.0, 0.2, 0.4))  # raters differ a little
    first, second = grammar.statement(event, rng), grammar.statement(other, rng)
    return _pair(SENTENCES, first, second, round(min(5.0, max(0.0, score)), 2))


def _qqp(rng: Random, split: str) -> Row:
    same = rng.random() < 0.5
    first, second = question_pair(rng, same, PAIR_TOPICS)
    return _pair(("question1", "question2"), first, second, int(same))


RELATIONS = ("same", "other", "opposite")  # the Hub's order: entailment, neutral, contradiction


def _mnli(rng: Random, split: str) -> Row:
    topics = lexicon.MISMATCHED if split.endswith("mismatched") else lexicon.MATCHED
    label = rng.randrange(3)
    # Half of the contradictions are antonyms of plain statements, so a quarter of the events, and
    # a quarter of the hypotheses, are negated in every class: "not" alone tells nothing.
    event = grammar.frame(rng, topics, negated=1 / 3 if label == 2 else 0.4)
    other = grammar.relate(event, RELATIONS[label], rng)
    drop = {s: None for s in ("modifier", "place") if getattr(event, s) and rng.random() < 0.3}
    shorter = other._replace(**drop)
    if label == 1 and shorter == event._replace(**drop):
        shorter = other  # what differed was what would be dropped
    return _pair(
        ("premise", "hypothesis"),
        grammar.statement(event, rng),
        grammar.statement(shorter, rng),
        label,
    )


def _qnli(rng: Random, split: str) -> Row:
    kind, answers = rng.choice(("who", "what", "where", "when")), rng.random() < 0.5
    asked, shown = answer(rng, kind, answers, PAIR_TOPICS)
    return _pair(
        ("question", "sentence"),
        grammar.question(asked, kind, rng),
        grammar.statement(shown, rng),
        int(not answers),
    )


def _rte(rng: Random, split: str) -> Row:
    holds = rng.random() < 0.5
    premise, conclusion = joined_pair(rng, holds, PAIR_TOPICS)
    return _pair(SENTENCES, premise, conclusion, int(not holds))


def _ner(rng: Random, split: str) -> Row:
    tokens, penn, names = zip(*grammar.news(rng, _part(split)), strict=True)
    return {
        "tokens": list(tokens),
        "pos_tags": [PENN.index(tag) for tag in penn],
        "ner_tags": [NER.index(name or "O") for name in names],
    }


def _pos(rng: Random, split: str) -> Row:
    tokens, upos = zip(*grammar.tagged(rng, _part(split)), strict=True)
    return {"tokens": list(tokens), "upos": list(upos)}


_ROWS = {
    "cola": _cola,
    "sst2": _sst2,
    "mrpc": _mrpc,
    "stsb": _stsb,
    "qqp": _qqp,
    "mnli": _mnli,
    "qnli": _qnli,
    "rte": _rte,
    "ner": _ner,
    "pos": _pos,
}


def _wnli_rows(train: int, validation: int, seed: int) -> dict[str, list[Row]]:
    """Both readings of each premise, one for training and the other, its opposite, to validate."""
    rng = Random(f"{seed}-wnli")
    rows: dict[str, list[Row]] = {"train": [], "validation": []}
    seen: set[str] = set()
    size = max(train, validation)
    for _ in range(20 * size + 1000):
        if len(seen) == size:
            break
        premise, readings, right = cause(rng, TOPIC_NAMES)
        if " ".join(premise) in seen:
            continue
        seen.add(" ".join(premise))
        order = rng.sample((0, 1), 2)
        for split, reading in zip(rows, order, strict=True):
            label = int(reading == right)
            rows[split].append(_pair(SENTENCES, [*premise, "."], readings[reading], label))
    else:
        raise ValueError(f"wnli: the grammar has too few sentences for {size} rows")
    return {"train": rows["train"][:train], "validation": rows["validation"][:validation]}


def _text(row: Row) -> str:
    return " | ".join(
        " ".join(value) if isinstance(value, list) else value
        for name, value in row.items()
        if isinstance(value, str) or name == "tokens"
    )


def _split_rows(name: str, sizes: dict[str, int], seed: int) -> dict[str, list[Row]]:
    """Rows of distinct text, over all the splits."""
    taken: set[str] = set()
    splits: dict[str, list[Row]] = {}
    for split, size in sizes.items():
        rng = Random(f"{seed}-{name}-{split}")
        rows: list[Row] = []
        for _ in range(20 * size + 1000):
            if len(rows) == size:
                break
            row = _ROWS[name](rng, split)
            if _text(row) not in taken:
                taken.add(_text(row))
                rows.append(row)
        else:
            raise ValueError(f"{name}: the grammar has too few sentences for {size} {split} rows")
        splits[split] = rows
    return splits


def task(name: str, train: int, validation: int, seed: int) -> dict[str, dict[str, list]]:
    """The rows of a task as split -> column -> values.

    `train` and `validation` count rows (of each validation split, for "mnli", which has two).
    Labels are the Hub's: integers, but floats in 0..5 for "stsb", lists of integers for the
    `pos_tags` and `ner_tags` of "ner" and of strings for the `upos` of "pos". No text occurs in
    two splits. Raises ValueError for an unknown name and for more rows than the grammar makes.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, 1, cutoff=0)[0]
        raise ValueError(f"unknown task {name!r}: did you mean {near!r}?")
    sizes = {"train": train, "validation": validation}
    if name == "mnli":
        sizes = {
            "train": train,
            "validation_matched": validation,
            "validation_mismatched": validation,
        }
    if name == "wnli":
        splits = _wnli_rows(train, validation, seed)
    else:
        splits = _split_rows(name, sizes, seed)
    return {split: _columns(name, rows) for split, rows in splits.items()}


def _columns(name: str, rows: list[Row]) -> dict[str, list]:
    """Rows to columns, with the Hub's row numbers: integers `idx` last, or strings `id` first."""
    columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
    if name in ("ner", "pos"):
        return {"id": [str(i) for i in range(len(rows))], **columns}
    return {**columns, "idx": list(range(len(rows)))}
