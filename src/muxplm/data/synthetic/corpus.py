"""The pre-training corpus: documents of one topic and one mood, from the grammar's sentences.

Pairs of sentences stand in the relations that the pair tasks ask about, and a discourse marker
("namely", "however", "also") or a reply ("yes", "no", "perhaps") often says which. A masked
language model that fills in the marker has compared the two sentences; one that fills in a word
of a restatement has aligned them. No task's label occurs in the corpus in any other form.
"""

from collections.abc import Iterator
from random import Random

from . import grammar, lexicon
from .grammar import ANTONYM, FAR, Frame, Tokens

RELATIONS = ("same", "same", "same", "opposite", "other", "other")


def _told(rng: Random, topic: str) -> Tokens:
    """A statement, then a marked restatement, contradiction or other event."""
    event = grammar.frame(rng, (topic,), negated=0.2)
    relation = rng.choice(RELATIONS)
    second = grammar.statement(grammar.relate(event, relation, rng, far=0.7), rng)
    marker = [rng.choice(lexicon.MARKERS[relation]), ","]
    if relation == "same" and rng.random() < 0.2:
        marker = []
    return [*grammar.statement(event, rng), *marker, *second]


def _asked_back(rng: Random, topic: str) -> Tokens:
    """A statement, then a yes-no question about it and the verdict."""
    event = grammar.frame(rng, (topic,))
    relation = rng.choice(RELATIONS)
    other = grammar.relate(event, relation, rng, far=0.7)
    if other.negated:  # questions are not negated: deny first, then ask
        event, other = other, event
    ask = grammar.question(other, "did", rng)
    return [*grammar.statement(event, rng), *ask, lexicon.VERDICTS[relation], "."]


def _answered(rng: Random, topic: str) -> Tokens:
    """A question, then a sentence that answers it or not, and says so."""
    kind, answers = rng.choice(("who", "what", "where", "when")), rng.random() < 0.5
    event, shown = answer(rng, kind, answers, (topic,), far=0.7)
    reply = lexicon.REPLIES[answers]
    return [*grammar.question(event, kind, rng), reply, ",", *grammar.statement(shown, rng)]


def _questions(rng: Random, topic: str) -> Tokens:
    """Two questions, the second marked as the same one or another."""
    same = rng.random() < 0.5
    first, second = question_pair(rng, same, (topic,), far=0.7)
    return [*first, rng.choice(lexicon.MARKERS["same" if same else "other"]), ",", *second]


def _joined(rng: Random, topic: str) -> Tokens:
    """Two events in one sentence, then a marked conclusion."""
    holds = rng.random() < 0.5
    premise, conclusion = joined_pair(rng, holds, (topic,), far=0.7)
    return [*premise, rng.choice(lexicon.MARKERS["same" if holds else "other"]), ",", *conclusion]


def _defined(rng: Random, topic: str) -> Tokens:
    """Two synonyms or two antonyms, said to be so."""
    concepts = (
        *lexicon.TOPICS[topic].people,
        *lexicon.TOPICS[topic].things,
        *lexicon.TOPICS[topic].places,
        *grammar.modifiers(topic),
    )
    concept = rng.choice(concepts)
    if concept in ANTONYM:
        return ["not", rng.choice(concept), "but", rng.choice(ANTONYM[concept]), "."]
    first, second = rng.sample(concept, 2)
    return ["a", first, "is", "a", second, "."]


def _caused(rng: Random, topic: str) -> Tokens:
    return [*cause(rng, (topic,))[0], "."]


def answer(
    rng: Random, kind: str, answers: bool, topics: tuple[str, ...], far: float = FAR
) -> tuple[Frame, Frame]:
    """The event that a question of `kind` is about, and the event that a sentence then tells.

    Every sentence ends in a place or a day. A "where" or "when" that goes unanswered meets the
    wrong one of these half of the time; any other such question meets another event.
    """
    in_place = kind == "where" if kind in ("where", "when") else rng.random() < 0.5
    shown = grammar.frame(rng, topics, modifier=0.7, place=in_place, day=not in_place)
    asked = shown._replace(place=None, day=None)
    if answers:
        return asked, shown
    if kind in ("where", "when") and rng.random() < 0.1:
        other = grammar.frame(rng, (shown.topic,), place=not in_place, day=in_place)
        return asked, shown._replace(place=other.place, day=other.day)
    asked_slots = {"who": ("verb", "object"), "what": ("subject", "verb")}
    slots = asked_slots.get(kind, ("subject", "verb", "object"))
    return asked, grammar.replace_some(shown, slots, rng, far)


def question_pair(
    rng: Random, same: bool, topics: tuple[str, ...], far: float = FAR
) -> tuple[Tokens, Tokens]:
    """Two questions that ask the same, or differ in one slot or in what they ask for."""
    event = grammar.frame(rng, topics, modifier=0.7, place=0.6)
    kinds = ("where", "when", "why")
    kind = rng.choice(("did", "who", "what", *kinds))
    other, other_kind = event, kind
    if not same and kind in kinds and rng.random() < 0.1:
        other_kind = rng.choice([k for k in kinds if k != kind])
    elif not same:
        hidden = {
            "who": ("subject", "modifier"),
            "what": ("object",),
            "where": ("place",),
            "when": ("place",),
        }.get(kind, ())
        asked = [s for s in grammar.slots(event) if s not in hidden]
        other = grammar.replace_some(event, asked, rng, far)
    return grammar.question(event, kind, rng), grammar.question(other, other_kind, rng)


def joined_pair(
    rng: Random, holds: bool, topics: tuple[str, ...], far: float = FAR
) -> tuple[Tokens, Tokens]:
    """ "A and B", then A or B retold or, where it must not hold, with a slot exchanged."""
    first = grammar.frame(rng, topics, modifier=0.2, place=0)
    second = grammar.frame(rng, (first.topic,), modifier=0.2, place=0)
    premise = [*grammar.statement(first, rng, 0)[:-1], "and", *grammar.statement(second, rng, 0)]
    concluded = rng.choice((first, second))
    if not holds:
        concluded = grammar.replace_some(concluded, ("subject", "verb", "object"), rng, far)
    return premise, grammar.statement(concluded, rng, 0)


def cause(rng: Random, topics: tuple[str, ...]) -> tuple[Tokens, list[Tokens], int]:
    """A sentence with a pronoun, the two ways to read the pronoun, and which of them is right."""
    topic = lexicon.TOPICS[rng.choice(topics)]
    verb, predicate, referent = rng.choice(lexicon.CAUSES)
    people = [rng.choice(concept) for concept in rng.sample(topic.people, 2)]
    pronoun = rng.choice(("he", "she"))
    premise = ["the", people[0], verb, "the", people[1], "because", pronoun, "was", predicate]
    return premise, [["the", person, "was", predicate, "."] for person in people], referent


_PAIRS = (_told, _told, _told, _asked_back, _answered, _questions, _joined)
_SINGLES = (_defined, _defined, _caused)


def _story(rng: Random, topic: str) -> list[Tokens]:
    moves = [rng.choice(_PAIRS)]
    if rng.random() < 0.2:
        moves.insert(rng.randrange(2), rng.choice(_SINGLES))
    return [move(rng, topic) for move in moves]


def _opinions(rng: Random, topic: str) -> list[Tokens]:
    positive = rng.random() < 0.5
    return [grammar.review(rng, positive, topic) for _ in range(rng.randint(3, 4))]


def _news(rng: Random, topic: str) -> list[Tokens]:
    return [[token for token, *_ in grammar.news(rng)] for _ in range(rng.randint(2, 3))]


def _daily(rng: Random, topic: str) -> list[Tokens]:
    return [
        [token for token, _ in grammar.tagged(rng)]
        if rng.random() < 0.4
        else grammar.present(rng, (topic,))[0]
        for _ in range(rng.randint(2, 3))
    ]


def corpus(documents: int, seed: int) -> Iterator[str]:
    """Yield `documents` documents: lines of space-separated lower-case tokens, a sentence each.

    A document has 2 to 4 sentences, about 20 tokens. The same arguments give the same documents;
    a smaller `documents` gives the first of them.
    """
    rng = Random(f"{seed}-corpus")
    kinds, weights = (_story, _opinions, _news, _daily), (76, 8, 8, 8)
    for _ in range(documents):
        make = rng.choices(kinds, weights)[0]
        sentences = make(rng, rng.choice(tuple(lexicon.TOPICS)))
        text = " ".join(token for sentence in sentences for token in sentence)
        yield text.replace(" . ", " .\n").replace(" ? ", " ?\n")
