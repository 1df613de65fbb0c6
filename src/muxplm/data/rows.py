"""The rows of a task, from its source to results/data and back. Imports no torch."""

from pathlib import Path

import pyarrow.parquet as pq

from muxplm import hub, recipes
from muxplm.data.sources import load_task
from muxplm.files import (
    DataError,
    as_written,
    made,
    read_json,
    sha256,
    write_json,
    write_parquet,
)
from muxplm.recipes import digest
from muxplm.settings import Settings


def prepare_task(name: str, split: str, settings: Settings):
    """Writes one split of a task, as `load_task` gives it: Parquet files, and a manifest of them."""
    manifest, parts = Path(settings.paths.task_data(name, split)), load_task(name, split, settings)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    for part, table in parts.items():
        write_parquet(manifest.with_name(f"{part}.parquet"), table)
    content = {
        "task": name,
        "source": settings.data.source,
        "recipe": digest(recipes.task_data(settings, name, split)),
        "rows": {part: len(table) for part, table in parts.items()},
        "sha256": {part: sha256(manifest.with_name(f"{part}.parquet")) for part in parts},
    }
    write_json(manifest, content)


def read_task(name: str, part: str, settings: Settings) -> dict[str, list]:
    """What `prepare_task` wrote, by column: "train", "validation" or "validation_mismatched".

    Raises DataError if a file is missing or damaged.
    """
    split = next(split for split, parts in hub.SPLITS.items() if part in parts)
    manifest = made(settings.paths.task_data(name, split))
    file = made(manifest.with_name(f"{part}.parquet"))
    with as_written(manifest):
        checksum = read_json(manifest)["sha256"][part]
    if sha256(file) != checksum:
        raise DataError(f"{file} is not what was written: delete {manifest} and run again")
    return pq.read_table(file).to_pydict()


def task_parts(name: str, split: str, settings: Settings) -> dict[str, int]:
    """The parts that `prepare_task` wrote of a split, with their numbers of rows."""
    manifest = settings.paths.task_data(name, split)
    with as_written(manifest):
        rows = read_json(manifest)["rows"]
        if not rows.keys() & set(hub.SPLITS[split]):
            raise ValueError("no rows")
    return rows
