"""The grammar: events ("frames") and the sentences and questions that tell them.

A frame names concepts, not words. `statement` and `question` choose one synonym for each, so two
tellings of a frame agree in meaning and differ in words. Sentences are lists of tokens.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from . import lexicon
from .lexicon import TOPICS, Concept, past, plural

Tokens = list[str]
Tagged = list[tuple[str, str, str]]  # token, Penn tag, name class ("" outside a name)


class Frame(NamedTuple):
    """Somebody (`modifier subject`) does something (`verb`) to somebody or something (`object`)."""

    topic: str
    subject: Concept
    verb: Concept
    object: Concept
    modifier: Concept | None = None
    place: Concept | None = None
    day: str | None = None
    negated: bool = False


def _flat(pairs: Sequence[tuple[Concept, Concept]]) -> tuple[Concept, ...]:
    return tuple(concept for pair in pairs for concept in pair)


_ALL_PAIRS = [*lexicon.PERSON_VERBS, *lexicon.COMMON_MODIFIERS]
for _topic in TOPICS.values():
    _ALL_PAIRS += [*_topic.verbs, *_topic.modifiers]
ANTONYM: dict[Concept, Concept] = {}
for _a, _b in _ALL_PAIRS:
    ANTONYM[_a], ANTONYM[_b] = _b, _a
PERSON_VERBS = _flat(lexicon.PERSON_VERBS)
VERBS = PERSON_VERBS + tuple(verb for topic in TOPICS.values() for verb in _flat(topic.verbs))


def modifiers(topic: str) -> tuple[Concept, ...]:
    return _flat(TOPICS[topic].modifiers + lexicon.COMMON_MODIFIERS)


def frame(
    rng: Random,
    topics: Sequence[str] = tuple(TOPICS),
    modifier: float = 0.3,
    place: float = 0.25,
    day: float = 0.0,
    negated: float = 0.0,
    person_verb: float = 0.25,
) -> Frame:
    """A random event of one of `topics`; the other arguments are probabilities of its parts."""
    name = rng.choice(topics)
    topic = TOPICS[name]
    if rng.random() < person_verb:
        verb = rng.choice(PERSON_VERBS)
        subject, object_ = rng.sample(topic.people, 2)
    else:
        verb = rng.choice(_flat(topic.verbs))
        subject, object_ = rng.choice(topic.people), rng.choice(topic.things)
    return Frame(
        name,
        subject,
        verb,
        object_,
        rng.choice(modifiers(name)) if rng.random() < modifier else None,
        rng.choice(topic.places) if rng.random() < place else None,
        rng.choice(lexicon.DAYS) if rng.random() < day else None,
        rng.random() < negated,
    )


FAR = 0.9


def replace(event: Frame, slot: str, rng: Random, far: float = FAR) -> Frame:
    """`event` with another concept of the same kind in `slot`, never the antonym.

    With probability `far` it comes from another topic: knowing which words keep company, as a model
    pre-trained on the corpus does, is then enough to notice. Concepts of the same topic can only be
    told apart by comparing the two tellings.
    """
    name = rng.choice(_other_topics(event)) if rng.random() < far else event.topic
    topic = TOPICS[name]
    old = getattr(event, slot)
    if slot == "verb":
        own = _flat(topic.verbs)
        pool = PERSON_VERBS if name == event.topic and old in PERSON_VERBS else own
    elif slot == "modifier":
        pool = _flat(topic.modifiers) if name != event.topic else modifiers(name)
    elif slot == "place":
        pool = topic.places
    else:
        thing = slot == "object" and event.object in TOPICS[event.topic].things
        pool = topic.things if thing else topic.people
    taken = {old, ANTONYM.get(old), event.subject, event.object}
    return event._replace(**{slot: rng.choice([c for c in pool if c not in taken])})


def _other_topics(event: Frame) -> list[str]:
    """The two sets of topics of MNLI stay apart."""
    known = lexicon.MATCHED if event.topic in lexicon.MATCHED else lexicon.MISMATCHED
    return [topic for topic in known if topic != event.topic]


def elsewhere(event: Frame, rng: Random) -> Frame:
    """An event of another topic, same slots filled."""
    return frame(
        rng,
        _other_topics(event),
        event.modifier is not None,
        event.place is not None,
        event.day is not None,
        event.negated,
        swappable(event),
    )


def replace_some(event: Frame, names: Sequence[str], rng: Random, far: float = FAR) -> Frame:
    """An event of another topic with probability `far`, else `event` with some slots replaced.

    The far ones are what a small model can learn to see, the near misses what is left for a better one.
    """
    if rng.random() < far:
        return elsewhere(event, rng)
    for slot in rng.sample(names, rng.randint(1, len(names))):
        event = replace(event, slot, rng, far)
    return event


def slots(event: Frame) -> list[str]:
    """The filled slots of an event, those that `replace` takes."""
    names = ("subject", "verb", "object", "modifier", "place")
    return [name for name in names if getattr(event, name) is not None]


def swappable(event: Frame) -> bool:
    return event.verb in PERSON_VERBS


def swap(event: Frame) -> Frame:
    """Who did it to whom, exchanged."""
    return event._replace(subject=event.object, object=event.subject)


def differ(event: Frame, rng: Random, far: float = FAR, swaps: float = 0.05) -> Frame:
    """An event that `event` neither says nor rules out: roles swapped, or some slots replaced."""
    if swappable(event) and rng.random() < swaps:
        return swap(event)
    return replace_some(event, slots(event), rng, far)


def oppose(event: Frame, rng: Random) -> Frame:
    """An event that `event` rules out: its negation or, if it is not negated, its antonym."""
    if not event.negated and rng.random() < 0.5:
        return event._replace(verb=ANTONYM[event.verb])
    return event._replace(negated=not event.negated)


def relate(event: Frame, relation: str, rng: Random, far: float = FAR) -> Frame:
    """`event` itself ("same"), one it rules out ("opposite") or an unrelated one ("other")."""
    if relation == "same":
        return event
    return oppose(event, rng) if relation == "opposite" else differ(event, rng, far)


# ---- frames to sentences


def say(concept: Concept, rng: Random) -> str:
    """One of a concept's synonyms; the first is the usual one."""
    return concept[0] if rng.random() < 0.7 else rng.choice(concept[1:])


def _agent(event: Frame, rng: Random) -> Tokens:
    adjective = [say(event.modifier, rng)] if event.modifier else []
    return ["the", *adjective, say(event.subject, rng)]


def _where(event: Frame, rng: Random) -> Tokens:
    day = ["on", event.day] if event.day else []
    return (["in", "the", say(event.place, rng)] if event.place else []) + day


def statement(event: Frame, rng: Random, passive: float = 0.1) -> Tokens:
    """One telling of `event`, in the passive with that probability; 6 to 13 tokens."""
    verb, object_ = say(event.verb, rng), say(event.object, rng)
    negation = ["not"] if event.negated else []
    if rng.random() < passive:
        head = ["the", object_, "was", *negation, past(verb), "by", *_agent(event, rng)]
    elif event.negated:
        head = [*_agent(event, rng), "did", "not", verb, "the", object_]
    else:
        head = [*_agent(event, rng), past(verb), "the", object_]
    return [*head, *_where(event, rng), "."]


def question(event: Frame, kind: str, rng: Random) -> Tokens:
    """The question of `kind` that `event` answers; 6 to 11 tokens. Negation is left out."""
    verb, object_ = say(event.verb, rng), say(event.object, rng)
    if kind == "who":
        return ["who", past(verb), "the", object_, *_where(event, rng), "?"]
    if kind == "what":
        asked = "whom" if swappable(event) else "what"
        return [asked, "did", *_agent(event, rng), verb, *_where(event, rng), "?"]
    if kind in ("where", "when"):
        event = event._replace(place=None, day=None)
    start = ["did"] if kind == "did" else [kind, "did"]
    return [*start, *_agent(event, rng), verb, "the", object_, *_where(event, rng), "?"]


# ---- sentences in the present tense, for number agreement


def present(rng: Random, topics: Sequence[str] = tuple(TOPICS)) -> tuple[Tokens, dict[str, int]]:
    """A sentence with agreeing determiners, subject and verb, and where its parts stand.

    The positions are those of "determiner", "noun", "verb" and, where there is one, "adjective".
    A phrase between subject and verb ("the doctors near the boy help") has a number of its own.
    """
    event = frame(rng, topics)
    many, near_many, object_many = (rng.random() < 0.5 for _ in range(3))
    tokens = [rng.choice(("these", "many") if many else ("this", "a"))]
    if rng.random() < 0.5:
        tokens[0] = "the"
    places = {"determiner": 0}
    if event.modifier:
        places["adjective"] = len(tokens)
        tokens.append(rng.choice(event.modifier))
    places["noun"] = len(tokens)
    tokens.append(number(rng.choice(event.subject), many))
    if rng.random() < 0.35:
        near = rng.choice(rng.choice(TOPICS[event.topic].people))
        tokens += ["near", "the", number(near, near_many)]
    if rng.random() < 0.2:
        tokens.append(rng.choice(lexicon.ADVERBS))
    verb = rng.choice(event.verb)
    places["verb"] = len(tokens)
    tokens.append(verb if many else plural(verb))
    determiner = rng.choice(("the", "these") if object_many else ("the", "a"))
    tokens += [determiner, number(rng.choice(event.object), object_many)]
    return [*tokens, *_where(event, rng), "."], places


def number(noun: str, many: bool) -> str:
    return plural(noun) if many else noun


# ---- opinions

# Slots: N and M nouns, G an adjective of the polarity wanted, B one of the opposite, L a verb of
# liking of that polarity, D one of the opposite.
REVIEWS = (
    "the N was G .",
    "the N was very G .",
    "we L the N because it was G .",
    "i L this G N .",
    "we L the N and the G M .",
    "the N and the M were G .",
    "the N was not B .",
    "nobody thought that the N was B .",
    "nobody D the N .",
    "the N was B but we L the M .",
    "i D the N but the M was G .",
    "the N was G and not B .",
)


def review(rng: Random, positive: bool, topic: str, part=lambda words: words) -> Tokens:
    """An opinion on things of `topic`; `part` picks what part of each word list may be used."""
    good = (lexicon.NEGATIVE, lexicon.POSITIVE)
    like = (lexicon.DISLIKED, lexicon.LIKED)
    nouns = [rng.choice(c) for c in rng.sample(TOPICS[topic].things + TOPICS[topic].people, 2)]
    words = {
        "N": nouns[0],
        "M": nouns[1],
        "G": rng.choice(part(good[positive])),
        "B": rng.choice(part(good[not positive])),
        "L": rng.choice(like[positive]),
        "D": rng.choice(like[not positive]),
    }
    return [words.get(token, token) for token in rng.choice(REVIEWS).split()]


# ---- names

# word/TAG tokens and slots: P person, F firm, C club, L place, M nationality, E event.
NEWS = (
    "P said/VBD that/IN F hired/VBD P ./.",
    "P was/VBD born/VBN in/IN L and/CC lives/VBZ in/IN L ./.",
    "P works/VBZ for/IN F in/IN L ./.",
    "the/DT M minister/NN P met/VBD P in/IN L ./.",
    "shares/NNS of/IN F rose/VBD after/IN the/DT deal/NN with/IN F ./.",
    "F opened/VBD an/DT office/NN in/IN L ./.",
    "C won/VBD the/DT match/NN against/IN C ./.",
    "fans/NNS of/IN C traveled/VBD to/TO L for/IN E ./.",
    "P played/VBD for/IN C and/CC won/VBD E ./.",
    "many/JJ M tourists/NNS visited/VBD L ,/, said/VBD P ./.",
    "P and/CC P traveled/VBD from/IN L to/TO L ./.",
    "heavy/JJ rain/NN fell/VBD in/IN L and/CC near/IN L ./.",
    "mr/NNP P lost/VBD E in/IN L ./.",
    "F sold/VBD its/PRP$ M office/NN to/TO F ./.",
)


def _person(rng: Random, part) -> Tokens:
    last = rng.choice(part(lexicon.AMBIGUOUS if rng.random() < 0.4 else lexicon.LAST))
    first = rng.choice(part(lexicon.FIRST))
    return rng.choice(([first, last], [last], [first]))


def _place(rng: Random, part) -> Tokens:
    city = rng.choice(part(lexicon.AMBIGUOUS if rng.random() < 0.4 else lexicon.CITIES))
    return [rng.choice(lexicon.REGIONS), city] if rng.random() < 0.2 else [city]


def _firm(rng: Random, part) -> Tokens:
    if rng.random() < 0.15:
        return ["bank", "of", *_place(rng, part)[-1:]]
    firm = rng.choice(part(lexicon.AMBIGUOUS if rng.random() < 0.3 else lexicon.FIRMS))
    return [firm, rng.choice(lexicon.SUFFIXES)] if rng.random() < 0.4 else [firm]


def _club(rng: Random, part) -> Tokens:
    club = _place(rng, part)[-1:]
    return [*club, "united"] if rng.random() < 0.4 else club


def _event(rng: Random, part) -> Tokens:
    return [_place(rng, part)[-1], rng.choice(lexicon.EVENTS)]


NAMES = {
    "P": ("PER", _person),
    "L": ("LOC", _place),
    "F": ("ORG", _firm),
    "C": ("ORG", _club),
    "E": ("MISC", _event),
    "M": ("MISC", lambda rng, part: [rng.choice(part(lexicon.NATIONALITIES))]),
}


def news(rng: Random, part=lambda words: words) -> Tagged:
    """A sentence about names. The class of a name's first token is "B-X", of the others "I-X"."""
    tagged: Tagged = []
    for item in rng.choice(NEWS).split():
        if item in NAMES:
            kind, make = NAMES[item]
            for i, token in enumerate(make(rng, part)):
                penn = "JJ" if item == "M" else "IN" if token == "of" else "NNP"
                tagged.append((token, penn, ("I-" if i else "B-") + kind))
        else:
            token, penn = item.rsplit("/", 1)
            tagged.append((token, penn, ""))
    return tagged


# ---- sentences for part-of-speech tagging

# word/UPOS tokens and slots: As/Ap agent singular or plural, Xs/Xp a word of NOUN_VERBS as a noun,
# Vs/Vb one as a verb (third person singular, base form), J adjective, R adverb, L place, Q number,
# P person's name. "to", "that", "her", "no" and NOUN_VERBS need their context.
TAGGED = (
    "the/DET J As Vs the/DET Xp ./PUNCT",
    "the/DET J Ap Vb the/DET Xs ./PUNCT",
    "she/PRON wants/VERB to/PART Vb the/DET Xs ./PUNCT",
    "he/PRON went/VERB to/ADP the/DET Xs with/ADP Q Xp ./PUNCT",
    "they/PRON R Vb the/DET Xp in/ADP L ./PUNCT",
    "that/DET Xs R Vs her/PRON ./PUNCT",
    "P knows/VERB that/SCONJ Xp Vb her/PRON ./PUNCT",
    "that/PRON is/AUX no/DET Xs ,/PUNCT oh/INTJ no/INTJ ./PUNCT",
    "no/INTJ ,/PUNCT we/PRON can/AUX not/PART Vb her/PRON Xs ./PUNCT",
    "do/AUX the/DET Ap Vb Xp or/CCONJ Xp ?/PUNCT",
    "Q Ap and/CCONJ Q Xp Vb the/DET Xs ./PUNCT",
    "the/DET Xs that/PRON he/PRON R Vs is/AUX J ./PUNCT",
    "because/SCONJ her/PRON Xs Vs Xp ,/PUNCT they/PRON Vb to/ADP L ./PUNCT",
    "will/AUX P Vb that/DET Xs ?/PUNCT",
)
# The UPOS tag of a slot, by its first letter.
_SLOT_UPOS = {
    "A": "NOUN",
    "X": "NOUN",
    "V": "VERB",
    "J": "ADJ",
    "R": "ADV",
    "L": "PROPN",
    "Q": "NUM",
    "P": "PROPN",
}


def tagged(rng: Random, part=lambda words: words) -> list[tuple[str, str]]:
    """A sentence as (token, UPOS tag) pairs; `part` picks the words that may be used."""
    topic = TOPICS[rng.choice(tuple(TOPICS))]
    pairs = []
    for item in rng.choice(TAGGED).split():
        if "/" in item:
            pairs.append(tuple(item.rsplit("/", 1)))
            continue
        if item[0] in "XV":
            word = rng.choice(part(lexicon.NOUN_VERBS))
        elif item[0] == "A":
            word = rng.choice(rng.choice(topic.people))
        else:
            word = {
                "J": lambda: rng.choice(part(rng.choice((lexicon.POSITIVE, lexicon.NEGATIVE)))),
                "R": lambda: rng.choice(lexicon.ADVERBS),
                "L": lambda: rng.choice(part(lexicon.CITIES)),
                "Q": lambda: rng.choice(lexicon.NUMBERS),
                "P": lambda: rng.choice(part(lexicon.FIRST)),
            }[item]()
        if item in ("Ap", "Xp", "Vs"):
            word = plural(word)
        pairs.append((word, _SLOT_UPOS[item[0]]))
    return pairs
