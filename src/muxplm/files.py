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


def in_one_line(error: Exception) -> str:
    """What went wrong, short enough to stand in a sentence."""
    return " ".join(str(error).split())[:160]


@contextlib.contextmanager
def written(path):
    """Turns what the system says while `path` is written into a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # libraries written in Rust have classes of their own for it
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        raise DataError(
            f"{path} cannot be written ({in_one_line(error)}): make room or name another place, "
            "and run again"
        ) from None


@contextlib.contextmanager
def as_written(path):
    """Turns what comes of reading content of another shape than its step wrote into a DataError."""
    try:
        yield
    except DataError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {in_one_line(error)}"
        raise DataError(
            f"{path} is not what its step writes ({reason}): delete it and run again"
        ) from None


@contextlib.contextmanager
def atomic_folder(folder):
    """Yields a new folder to fill; it takes the place of `folder` only if nothing was raised.

    What is in it has reached the disk by then, so that a machine that goes down leaves no empty files.
    """
    folder = Path(folder)
    draft = folder.with_name(f".{folder.name}.draft")
    with written(folder):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            yield draft
            for path in (*draft.rglob("*"), draft):
                _flush(path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(draft, folder)
        _flush(folder.parent)


def _flush(path: Path):
    """Waits until a file, or a folder's list of files, is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_bytes(path, content: bytes):
    with written(path), replacing(Path(path)) as file:
        file.write(content)


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
    if not Path(path).is_file():
        raise DataError(f"{path} is missing: run the step that makes it first")
    return Path(path)


def read_json(path):
    path = made(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({in_one_line(error)}): replace it") from None
    except (ValueError, RecursionError) as error:
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


def write_manifest(folder: Path):
    """manifest.json: size and digest of each other file of a folder, for `check_manifest`."""
    listed = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in folder.iterdir()}
    write_json(folder / "manifest.json", listed)


def check_manifest(folder: Path):
    """DataError if a file of the folder is not as it was when the manifest was written."""
    listed = read_json(folder / "manifest.json")
    if not isinstance(listed, dict) or not listed:
        raise DataError(f"{folder}/manifest.json lists no files")
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing")
        if entry != {"bytes": path.stat().st_size, "sha256": sha256(path)}:
            raise DataError(f"{path} is not what was written")


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
            if nameless:
                # Any src_dir_fd makes it follow the link that /proc has in the file's place.
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
