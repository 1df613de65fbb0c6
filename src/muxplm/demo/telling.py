"""What `muxplm demo` prints."""

from collections.abc import Iterator
from pathlib import Path

from muxplm.demo.reading import (
    SENTENCES,
    SHIPPED,
    VARIANT,
    Pass,
    load,
    read_back,
    sentences_of,
)
from muxplm.settings import Settings


def tell(settings: Settings | None = None, file: Path | None = None) -> Iterator[str]:
    """The lines, as they come about. DataError as `load` and `sentences_of` raise it."""
    model, tokenizer, folder = load(settings)
    sentences = sentences_of(file or SENTENCES, model, tokenizer)
    n = model.config.num_instances
    whence = "shipped with muxplm" if folder == SHIPPED else f"of {folder}"
    yield f"{VARIANT}, primed to read N = {n} sentences back from one pass, {whence}"
    yield ""
    passes = []
    for done in read_back(model, tokenizer, sentences):
        passes.append(done)
        for reading in done.readings:
            yield f"  {'back ' if reading.exact else 'WRONG'}  {reading.sentence}"
            if not reading.exact:
                yield f"   read  {reading.read}"
            if reading.unknown:
                yield f"         not in the vocabulary: {', '.join(reading.unknown)}"
    right = sum(reading.exact for done in passes for reading in done.readings)
    yield ""
    yield f"{right} of {len(sentences)} sentences read back word for word."
    yield from explained(passes, n)


def explained(passes: list[Pass], n: int) -> Iterator[str]:
    """What happened, from the shapes of what the encoder saw."""
    given, made = sum(len(done.readings) for done in passes), sum(done.rows for done in passes)
    length, up_to = max(done.length for done in passes), "up to " if len(passes) > 1 else ""
    yield (
        f"{_count(given, 'row')} of {up_to}{length} tokens, padding included, became "
        f"{_count(made, 'row')} of {up_to}{length} vectors, {passes[0].width} numbers each;"
    )
    once = "that row, once" if made == 1 else "each of those, once"
    yield f"the encoder saw {once}, and its output was read with {n} keys, one for each row put in."
    if left := given % n:
        yield f"The last {left} had copies of themselves beside them, to make a group of {n}."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
