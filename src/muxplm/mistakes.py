"""Mistakes in a config, in words: which key is wrong, and what to write instead."""

import difflib

from pydantic import BaseModel


class ConfigError(ValueError):
    """One line per mistake: which key is wrong and what to write instead."""


def nearest(name, known) -> str:
    """The end of a sentence about a `name` that is none of `known`: what was meant, or what there is."""
    found = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f"; known: {', '.join(map(str, known))}"


def explain(problem: dict, model: type[BaseModel]) -> str:
    """One line for one of pydantic's errors about `model`: which key, and what to write instead."""
    # pydantic marks the tested branch of a union, or the key of a mapping, by extra path parts.
    place = [p for p in problem["loc"] if p not in ("[key]", "int", "float", "str", "none")]
    where = ".".join(str(part) for part in place)
    kind, given, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{where}: unknown key{nearest(place[-1], _keys_at(place[:-1], model))}"
    if kind == "missing":
        return f"{where}: missing key"
    if kind == "literal_error":
        known = [k.strip().strip("'") for k in context["expected"].replace(" or ", ",").split(",")]
        return f"{where}: unknown name {given!r}{nearest(given, known)}"
    if kind == "value_error":
        return f"{where}: {context['error']}".removeprefix(": ")
    if kind in ("float_type", "int_type") and isinstance(given, str):
        return f"{where}: {given!r} is text, not a number (write one, without quotes)"
    return f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {given!r}"


def _keys_at(place, model: type[BaseModel]) -> list[str]:
    """The keys that the model's schema allows at a place of its content."""
    node, definitions = model.model_json_schema(), model.model_json_schema()["$defs"]
    for part in place:
        inner = node.get("properties", {}).get(part) or node.get("additionalProperties")
        node = inner or node.get("items") or {}
        node = next((kind for kind in node.get("anyOf", ()) if "$ref" in kind), node)
        node = definitions[node["$ref"].split("/")[-1]] if "$ref" in node else node
    return list(node.get("properties", {}))
