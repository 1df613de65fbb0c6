"""Configs: every setting with values that its schema refuses, and files that are none."""

import json
import math
import random

import jsonschema
import yaml
from presets import merged

from malformed import Case
from malformed.world import MODEL
from muxplm import config as configuration

COMMAND = "table table1 --config bad.json"
WRONG = [
    "words",
    "",
    -1,
    1.5,
    10**30,
    True,
    None,
    math.nan,
    math.inf,
    -math.inf,
    [],
    {},
    [None],
    {"x": 1},
]


def written(name: str, content):
    """A damage: a file of bytes, of text, or of JSON."""

    def write(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))

    return write


def leaves(node, place=()):
    """The places of all values, sections among them."""
    if place:
        yield place, node
    for key, value in node.items() if isinstance(node, dict) else ():
        yield from leaves(value, (*place, key))


def change_at(place, value) -> dict:
    for key in reversed(place):
        value = {key: value}
    return value


KEPT, SEED = 400, 0  # of the wrong values; there are thousands


def cases():
    every = list(_wrong_values())
    yield from random.Random(SEED).sample(every, KEPT)
    yield from _broken_files()


def _wrong_values():
    raw = merged()
    schema = jsonschema.Draft202012Validator(configuration.schema())
    full = configuration.validate(raw).model_dump(mode="json")
    sections = {stage: full[stage] for stage in ("model", "prime", "pretrain", "finetune")}
    full["overrides"] = {MODEL: sections}
    for place, value in leaves(full):
        for wrong in WRONG:
            # Mappings are laid over one another: an empty one changes nothing.
            if wrong == {} and isinstance(value, dict):
                continue
            # The schema knows no overrides' contents; they are those of the sections themselves.
            whole = place[2:] if place[0] == "overrides" and len(place) > 3 else place
            finite = not isinstance(wrong, float) or math.isfinite(wrong)
            # A JSON schema has no word for these.
            if finite and schema.is_valid(merged(full, change_at(whole, wrong))):
                continue
            if not finite and not isinstance(value, int | float):
                continue
            title = f"{'.'.join(place)} = {wrong!r}"
            bad = written("bad.json", change_at(place, wrong))
            yield Case(title, COMMAND, (str(place[-1]), ".".join(place)), bad)
        if isinstance(value, list) and value:
            twice = written("bad.json", change_at(place, [*value, value[0]]))
            yield Case(f"{'.'.join(place)} twice", COMMAND, (place[-1],), twice)
        if isinstance(value, dict) and place[0] not in ("overrides",):
            stranger = written("bad.json", change_at((*place, "wrod"), 1))
            yield Case(f"{'.'.join(place)}.wrod", COMMAND, ("wrod",), stranger)


def _broken_files():
    raw = merged()
    text = yaml.safe_dump(raw)
    for name, content in FILES.items():
        file = f"bad{name[name.rindex('.') :]}"
        named = (file, "config: results: ", "config: max_length: ")
        yield Case(name, f"table table1 --config {file}", named, written(file, content))
        if file.endswith("yaml"):  # the default itself
            damage = written("config/config.yaml", content)
            named = ("config/config.yaml", *named[1:])
            yield Case(f"default {name}", "table table1", named, damage)
    for key in raw:
        lines = yaml.safe_dump({k: v for k, v in raw.items() if k != key})
        if key in configuration.schema()["required"]:
            damage = written("config/config.yaml", lines)
            yield Case(f"without {key}", "table table1", (key,), damage)
    for at in range(40, len(text), 400):
        broken = text[:at] + "\n]: {" + text[at:]
        damage = written("bad.yaml", broken)
        yield Case(f"broken at {at}", "table table1 --config bad.yaml", ("bad.yaml",), damage)


FILES = {
    "open.yaml": "tasks: [sst2\n",
    "tab.yaml": "tasks:\n\t- sst2\n",
    "list.yaml": "- tasks\n",
    "number.yaml": "3\n",
    "empty.yaml": "",
    "blank.json": "  \n",
    "word.yaml": "words\n",
    "binary.yaml": b"\xff\xfe\x00",
    "null.yaml": b"a: \x00",
    "two.yaml": "a: 1\n---\nb: 2\n",
    "object.yaml": "results: !!python/object/apply:os.system [touch here]\n",
    "anchor.yaml": "results: *nothing\n",
    "key.yaml": "? [a, b]\n: 1\n",
    "number-key.yaml": "1: 2\n",
    "null-key.yaml": "~: 2\n",
    "date.yaml": "results: 2020-01-01\n",
    "quotes.json": "{'tasks': 1}",
    "list.json": "[]",
    "text.json": '"x"',
    "nan.json": '{"max_length": NaN}',
    "deep.json": "[" * 5000,
    "deep.yaml": "[" * 1500,
    "digits.json": '{"max_length": ' + "9" * 5000 + "}",
    "digits.yaml": "max_length: " + "9" * 5000,
    "half.json": '{"tasks": ["ss',
    "surrogate.json": '{"results": "\\ud800"}',
    "nul.json": '{"results": "a\\u0000b"}',
}
