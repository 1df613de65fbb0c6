"""How a config is read: files laid over one another, then checked; every mistake is one line.

`workflow/schemas/config.schema.yaml` is generated from the settings' classes (`muxplm schema`), and a
test holds the two equal.
"""

import json
import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from muxplm import experiments, hub
from muxplm.mistakes import ConfigError, explain
from muxplm.settings import Settings, merge

DEFAULT = Path("config/config.yaml")


def validate(raw: dict) -> Settings:
    """Typed settings from a merged config, or ConfigError with one line for each mistake."""
    try:
        return Settings.model_validate(raw)
    except ValidationError as error:
        if (numbers := _with_numbers(raw, error)) is not None:
            return validate(numbers)
        raise ConfigError("\n".join(f"config: {line}" for line in _mistakes(error))) from None


def _mistakes(error: ValidationError) -> list[str]:
    """One line each, at most three."""
    problems = error.errors()
    whole = [p["loc"][0] for p in problems if p["type"] == "missing" and len(p["loc"]) == 1]
    if len(whole) > 3:  # none of the default's keys, more likely than as many slips
        return [
            f"{DEFAULT} is not read or is none: it lacks {', '.join(whole[:3])} and "
            f"{len(whole) - 3} more keys; start in the repository's root"
        ]
    lines = list(dict.fromkeys(explain(problem, Settings) for problem in problems))
    return lines if len(lines) <= 3 else [*lines[:2], f"and {len(lines) - 2} mistakes more"]


def _with_numbers(raw: dict, error: ValidationError) -> dict | None:
    """`raw` with numbers where they stand as text; None if there are none.

    Snakemake reads the values inside `--config 'prime={steps: 40}'` as text, and YAML reads 5e-5 so.
    """
    found = merge({}, raw)
    changed = False
    for problem in _located(error.errors()):
        parse = {"int_type": int, "float_type": float}.get(problem["type"])
        if parse is None or not isinstance(problem["input"], str):
            continue
        if not re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", problem["input"], re.IGNORECASE):
            continue
        place, node = (
            [part for part in problem["loc"] if part not in ("int", "float", "none")],
            found,
        )
        try:
            for part in place[:-1]:
                node = node[part]
            node[place[-1]] = parse(problem["input"])
        except (ValueError, LookupError, TypeError):
            continue
        changed = True
    return found if changed else None


def _located(problems: list[dict]) -> list[dict]:
    """With those of overridden sections in the place of the one error that holds them."""
    inner = [getattr(p.get("ctx", {}).get("error"), "problems", [p]) for p in problems]
    return [problem for found in inner for problem in found]


def load(files=()) -> Settings:
    """The default config with `files` (YAML or JSON) laid over it in order."""
    raw = {}
    for file in (DEFAULT, *map(Path, files)):
        try:
            # YAML reads JSON too, but takes JSON's 1e-06 for text.
            parse = json.loads if file.suffix == ".json" else yaml.safe_load
            content = parse(file.read_text())
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"config: cannot read {file}: {reason}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"config: {file} does not hold keys and values")
        if strange := [key for key in content if not isinstance(key, str)]:
            raise ConfigError(f"config: {file}: {strange[0]!r} is no name of a setting: delete it")
        raw = merge(raw, content)
    return validate(raw)


def schema() -> dict:
    """The JSON schema that editors and Snakemake understand."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    } | Settings.model_json_schema()


def check_run(settings: Settings):
    """ConfigError for a local mirror that is not there, or for speed timed at a length of no model."""
    if settings.data.source == "local" and not Path(settings.data_folder).is_dir():
        raise ConfigError(
            f"config: data_folder {settings.data_folder} is not a folder: correct --config "
            "data_folder=DIR"
        )
    if settings.throughput.length > settings.max_length:
        raise ConfigError(
            f"config: throughput.length {settings.throughput.length} is above max_length "
            f"{settings.max_length}, for which the models are built: lower the one or raise the other"
        )


def check_pins(settings: Settings):
    """ConfigError for what would be read from the Hub at no commit in particular."""
    data, released, hint = settings.data, settings.released, "(`muxplm pin` looks it up)"
    if data.source == "hub":
        for repo in hub.unpinned(settings.tasks, data.revisions, corpus=not released):
            raise ConfigError(
                f"config: data.revisions lacks a commit of {repo.name}, whose {repo.branch} is read "
                f"{hint}"
            )
    if released and not released.mirror:
        for name in experiments.released_ids(settings.axes):
            if name not in released.revisions:
                raise ConfigError(f"config: released.revisions lacks a commit of {name} {hint}")
