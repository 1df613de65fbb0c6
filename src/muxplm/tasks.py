"""The tasks as data: what a row holds, what is predicted, how it is scored. No torch here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One task: `columns` hold the text, `label` the target, `labels` its classes in code order.

    `kind` is "classification", "regression" or "tagging"; `metric` names the headline score, the one
    that GLUE (or the paper, for tagging) averages. Empty `labels` means a real-valued target, within
    `bounds`. `group` is the paper's average that it belongs to, "GLUE" or "Token"; "" for a task of
    one's own, which no table of the paper's shows.
    """

    name: str
    title: str
    kind: str
    columns: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    metric: str
    group: str = ""
    bounds: tuple[float, float] = (0, 5)


def _glue(name, title, columns, labels, metric="accuracy"):
    kind = "classification" if labels else "regression"
    return Task(name, title, kind, columns, "label", labels, metric, "GLUE")


_PAIR = ("sentence1", "sentence2")
_NOT_SO = ("entailment", "not_entailment")

NER_TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
# The Hub's code order.
# fmt: off
UPOS_TAGS = (
    "NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET",
    "CCONJ", "PROPN", "PRON", "X", "_", "ADV", "INTJ", "VERB", "AUX",
)
# fmt: on

TASKS = {
    task.name: task
    for task in (
        _glue(
            "mnli", "MNLI", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")
        ),
        _glue("qqp", "QQP", ("question1", "question2"), ("not_duplicate", "duplicate")),
        _glue("qnli", "QNLI", ("question", "sentence"), _NOT_SO),
        _glue("mrpc", "MRPC", _PAIR, ("not_equivalent", "equivalent")),
        _glue("wnli", "WNLI", _PAIR, ("not_entailment", "entailment")),
        _glue("stsb", "STS-B", _PAIR, (), "spearman"),
        _glue("rte", "RTE", _PAIR, _NOT_SO),
        _glue("sst2", "SST-2", ("sentence",), ("negative", "positive")),
        _glue("cola", "CoLA", ("sentence",), ("unacceptable", "acceptable"), "matthews"),
        Task("ner", "NER", "tagging", ("tokens",), "ner_tags", NER_TAGS, "seqeval_f1", "Token"),
        Task("pos", "POS", "tagging", ("tokens",), "upos", UPOS_TAGS, "seqeval_f1", "Token"),
    )
}

GLUE, TOKEN = (
    tuple(task.name for task in TASKS.values() if task.group == group)
    for group in ("GLUE", "Token")
)
# Section 4 and Appendix E: the two smallest tasks are scored but not averaged.
GLUE_AVERAGED = tuple(name for name in GLUE if name not in ("wnli", "cola"))
AVERAGED = GLUE_AVERAGED + TOKEN
