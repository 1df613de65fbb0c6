"""Writing results so that a killed job never leaves half a file that looks whole."""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path


class DataError(ValueError):
    """Bad input; the message is one sentence that names the file or key and the fix."""


def in_one_line(error: Exception) -> str:
    """What went wrong, short enough to stand in a sentence."""
    return " ".join(str(error).split())[:160]


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


def write_text(path, text: str):
    write_bytes(path, text.encode("utf-8"))


def write_json(path, value):
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run the step that makes it first") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}): delete it and run again") from None


def sha256(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path):
    """Yields a new binary file, which takes the place of `path` if nothing was raised.

    On Linux the file has no name until then, so that a killed process leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    nameless = _nameless(path.parent)
    try:
        with nameless or open(draft, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if (
                nameless
            ):  # any src_dir_fd makes it follow the link that /proc has in the file's place
                os.link(f"/proc/self/fd/{file.fileno()}", draft, src_dir_fd=file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _nameless(folder: Path):
    """A file that goes with its process, if the system has such a thing."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):
        return None
    return open(descriptor, "w+b")
