"""Trained models on disk: a folder that is whole or not there, with what it was made from.

run.json beside the weights holds the recipe and each file's checksum, so that a job that finds its own
result there, because Snakemake was stopped before it noted it or because another cell of the job is what
changed, adopts it instead of training again.
"""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from muxplm import files
from muxplm.recipes import digest

WEIGHTS, RUN = "model.safetensors", "run.json"


def adopt(path: str, recipe: dict) -> bool:
    """Whether the folder of `path`, a done.json, holds this recipe's weights; if so, it is done."""
    folder, run = Path(path).parent, _run_of(path)
    if run.get("recipe") != digest(recipe):
        return False
    # Runs of earlier versions list their weights alone.
    wanted = run.get("files") or {WEIGHTS: run.get("sha256")}
    for name, checksum in wanted.items():
        if not (folder / name).is_file() or files.sha256(folder / name) != checksum:
            return False
    _done(path, run)
    return True


def recorded(path: str) -> str | None:
    """The recipe that the folder of `path` says it was made by; None if it says none."""
    return _run_of(path).get("recipe")


def _run_of(path: str) -> dict:
    """run.json beside `path`, a done.json; empty if there is none that can be read."""
    try:
        run = files.read_json(Path(path).with_name(RUN))
    except files.DataError:
        return {}
    return run if isinstance(run, dict) else {}


def save(model, path: str, recipe: dict, record: dict, extras=lambda folder: None):
    """The model and run.json in one atomic step, then `path`, their done.json.

    record: what else run.json says. extras(folder): writes further files beside the weights.
    """
    with files.atomic_folder(Path(path).parent) as draft:
        model.save_pretrained(draft)
        extras(draft)
        checksums = {file.name: files.sha256(file) for file in sorted(draft.iterdir())}
        run = {
            "recipe": digest(recipe),
            "settings": recipe,
            **record,
            "sha256": checksums[WEIGHTS],
            "files": checksums,
            "made_with": made_with(),
        }
        files.write_json(draft / RUN, run)
    _done(path, run)


def _done(path: str, run: dict):
    files.write_json(path, {key: run[key] for key in ("recipe", "sha256")})


@cache
def made_with() -> dict:
    """Versions of the code and of the libraries that numbers come from, and the machine."""
    packages = ("muxplm", "torch", "transformers", "tokenizers", "datasets")
    return {
        **{name: metadata.version(name) for name in packages},
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": device(),
    }


def _commit() -> str | None:
    """Of the checkout that the package runs from, with a plus if it was changed; None without one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40"]
    options = {"capture_output": True, "text": True, "env": os.environ | {"LC_ALL": "C"}}
    try:
        found = subprocess.run([*command, "--dirty=+", "--exclude=*"], **options)
    except OSError:  # no git
        return None
    return found.stdout.strip() or None


def device() -> str:
    """The processor's name; a training adds that of its accelerator."""
    information = Path("/proc/cpuinfo")  # Linux; `platform` names only the architecture there
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
