"""Words for messages."""

import difflib


def nearest(name, known) -> str:
    """How a sentence that refuses `name` goes on: with the known name it resembles, or with all."""
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f"; known: {', '.join(map(str, known))}"
