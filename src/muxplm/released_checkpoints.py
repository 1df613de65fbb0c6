"""What the paper's authors published on the Hub, and for which variants of the grid. No torch."""

from muxplm.files import DataError

_SIZES = ("small", "base", "large")
# Pre-trained, by family (and multiplexer, where it is not the default): the id, the sizes and the N it
# exists for.
RELEASED = {
    "tmux": ("princeton-nlp/datamux-retrieval-{n}", ("base",), (2, 5, 10, 20, 40)),
    "bert": ("princeton-nlp/bert_{size}_1", _SIZES, (1,)),
    "electra": ("princeton-nlp/electra_{size}_1", ("base",), (1,)),
    "mux-bert": (
        "princeton-nlp/muxbert_{size}_gaussian_hadamard_index_pos_{n}",
        _SIZES,
        (2, 5, 10),
    ),
    "mux-bert-contextual": (
        "princeton-nlp/muxbert_{size}_gaussian_attention_v2_index_pos_{n}",
        ("base",),
        (2, 5, 10),
    ),
    "mux-electra": (
        "princeton-nlp/muxelectra_{size}_gaussian_hadamard_index_pos_{n}",
        ("base",),
        (2, 5, 10),
    ),
}
# Fine-tuned, all of the base size: the id and the tasks.
PUBLISHED = {
    "tmux": ("princeton-nlp/datamux-{task}-{n}", ("mnli", "qnli", "qqp", "sst2", "ner")),
    "mux-bert": (
        "princeton-nlp/muxbert_base_{task}_gaussian_hadamard_index_pos_{n}",
        ("mnli", "qnli", "qqp", "sst2"),
    ),
}


def released_id(variant) -> str | None:
    """The Hub's id of the pre-trained checkpoint of a variant of the grid; None if there is none."""
    key = variant.name.replace(f"-{variant.size}", "").replace(f"-n{variant.n}", "")
    hub_id, sizes, instances = RELEASED.get(key, ("", (), ()))
    if variant.size not in sizes or variant.n not in instances:
        return None
    return hub_id.format(size=variant.size, n=variant.n)


def published_id(variant, task: str) -> str:
    """The same of the checkpoint fine-tuned on a task. DataError if there is none."""
    hub_id, tasks = PUBLISHED.get(variant.family, ("", ()))
    if task not in tasks or variant.size != "base":
        there = "; ".join(
            f"{family} base: {', '.join(on)}" for family, (_, on) in PUBLISHED.items()
        )
        raise DataError(
            f"of {variant.name} no checkpoint fine-tuned on {task} was published: {there}"
        )
    return hub_id.format(n=variant.n, task=task)
