"""Writing results so that a killed job never leaves half a file that looks whole."""

import contextlib
import hashlib
import io
import json
import os
import shutil
from pathlib import Path


class DataError(ValueError):
    """Bad input; the message is one sentence that names the file or key and the fix."""


@contextlib.contextmanager
def atomic_folder(folder):
    """Yields a new folder to fill; it takes the place of `folder` only if nothing was raised."""
    folder = Path(folder)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(draft, folder)


def write_bytes(path, content: bytes):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    os.replace(draft, path)


def write_parquet(path, table):
    """`table`: a pyarrow Table."""
    import pyarrow.parquet as pq  # planning a workflow imports this module and not pyarrow

    content = io.BytesIO()
    pq.write_table(table, content)
    write_bytes(path, content.getvalue())


def write_text(path, text: str):
    write_bytes(path, text.encode("utf-8"))


def write_json(path, value):
    write_text(path, json.dumps(value, indent=1) + "\n")


def made(path) -> Path:
    """`path`, or DataError if no step has made it yet."""
    if not Path(path).exists():
        raise DataError(f"{path} is missing: run the step that makes it first")
    return Path(path)


def read_json(path):
    try:
        return json.loads(made(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}): delete it and run again") from None


def sha256(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gpus() -> int:
    """How many NVIDIA GPUs this machine offers, without the seconds that asking torch would take."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
