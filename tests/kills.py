"""The smoke DAG under random SIGKILLs, which has to come to the bytes of an undisturbed run.

    python tests/kills.py --kills 100 --seed 0 --bundles all task cell

A kill hits a job, a job that is writing just then, Snakemake alone (its jobs run on), or all of them.
After it nothing is done but `snakemake --unlock`, where Snakemake was hit, and the same command again.
Weights that were whole when a kill came have to be the same file at the end: none is trained twice.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from multiprocessing.pool import ThreadPool
from pathlib import Path

import psutil
from test_workflow import Copy

from muxplm import experiments

KINDS = ("job", "writing job", "head", "all")
GAPS = 0.02, 0.15  # of an undisturbed run's seconds, between a start or a kill and the next
SMALL = {"families": ["bert", "mux-bert"], "sizes": ["base"], "tasks": ["sst2"]}
PATIENCE = 4.0  # seconds in which a job has to begin to write


class Run:
    """The workflow in a copy of the repository; the tables and figures whose bytes may not vary.

    changes: laid over the preset, a tuple of files over the default. how: options of Snakemake, which
    say where jobs run.
    """

    def __init__(
        self, folder: Path, changes: dict, how=("--cores", "2"), preset=("config/smoke.yaml",)
    ):
        folder.mkdir()
        self.copy, self.how = Copy(folder), how
        self.copy.configfiles = [*preset]
        change = self.copy.write("changes.yaml", changes)
        self.settings = self.copy.settings(change)
        self.files = [*self.copy.configfiles, change]
        paths, axes = self.settings.paths, self.settings.axes
        # What is timed varies from run to run.
        fixed = {
            n: t for n, t in experiments.targets().items() if t.is_selected(axes) and not t.timed
        }
        self.targets = [
            paths.table(name, "tex") if name in experiments.TABLES else paths.figure(name, "pdf")
            for name in fixed
        ]
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "snakemake", *self.how, "--configfile", *self.files]
        with open(self.copy.folder / "said.log", "a") as said:
            self.process = subprocess.Popen(
                [*command, "--", *self.targets],
                cwd=self.copy.folder,
                env=self.copy.environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def unlock(self):
        done = self.copy.run(
            sys.executable, "-m", "snakemake", "--unlock", "--configfile", *self.files
        )
        assert done.returncode == 0, done.stdout

    def jobs(self) -> list[psutil.Process]:
        """The `muxplm` processes of this copy, those of a killed Snakemake too."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.cwd() == str(self.copy.folder)
                if ours and "/muxplm" in " ".join(process.cmdline()[:2]):
                    found.append(process)
        return found

    def weights(self) -> dict[str, tuple[int, int]]:
        """Inode and time of all weights that are whole: the folder is put in place at once."""
        found = {}
        for path in self._files(self.settings.results):
            if path.name == "model.safetensors" and ".draft" not in str(path):
                with suppress(FileNotFoundError):  # a job may put others in place just now
                    path.with_name("run.json").stat()
                    file = path.stat()
                    found[str(path.relative_to(self.copy.folder))] = file.st_ino, file.st_mtime_ns
        return found

    def results(self) -> dict[str, str]:
        """Digests of weights and of what is printed."""
        results = self.copy.folder / self.settings.results
        wanted = [*results.rglob("model.safetensors"), *results.glob("tables/*")]
        wanted += results.glob("figures/*.csv")
        return {str(p.relative_to(results)): sha256(p.read_bytes()).hexdigest() for p in wanted}

    def kill(self, kind: str, rng: random.Random) -> bool:
        """Whether there was something of the kind to kill."""
        if kind == "writing job":
            end = time.monotonic() + PATIENCE
            while not self._drafts() and time.monotonic() < end:
                time.sleep(0.002)
            if not self._drafts():
                return False
        hit = self.jobs()
        if kind in ("job", "writing job"):
            if not hit:
                return False
            hit = [rng.choice(hit)] if kind == "job" else hit
        elif kind == "head":
            hit = []
        if kind in ("head", "all"):
            if self.process.poll() is not None:
                return False
            os.killpg(self.process.pid, signal.SIGKILL) if kind == "all" else self.process.kill()
            self.process.wait()
        for process in hit:
            with suppress(psutil.Error):
                process.kill()
        return True

    def _drafts(self) -> list[Path]:
        found = [*self._files(self.settings.results), *self._files(self.settings.scratch)]
        return [path for path in found if path.name.startswith(".") and path.suffix == ".draft"]

    def _files(self, folder: str) -> Iterator[Path]:
        """All files and folders in it. What jobs delete meanwhile is left out; `glob` would stop."""
        for parent, folders, files in os.walk(self.copy.folder / folder):
            yield from (Path(parent, name) for name in (*folders, *files))


def disturbed(changes: dict, kills: int, rng, gaps, expected: dict, folder: Path) -> dict:
    """Passes of the whole DAG until `kills` kills have hit; AssertionError where one left a trace."""
    done, passes, starts = Counter(), 0, 0
    while done.total() < kills:
        passes += 1
        pass_folder = folder / f"{changes['bundle']}-{passes}"
        run = Run(pass_folder, changes)
        starts += to_the_end(run, kills, rng, gaps, done)
        check(run, expected)
        told = f"{done.total()} kills, {starts} starts"
        print(f"bundle {changes['bundle']}, pass {passes}: {told}", flush=True)
        shutil.rmtree(pass_folder)
    return {"kills": dict(done), "passes": passes, "starts": starts}


def to_the_end(run: Run, kills: float, rng, gaps, done: Counter) -> int:
    """One pass: started again until it ends well, under kills until `done` has `kills` of them.

    Returns the number of starts. AssertionError where weights that were whole at a kill were made again.
    """
    starts, whole = 0, {}
    while True:
        run.start()
        starts += 1
        while run.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(rng.uniform(*gaps))
                break
            kind = rng.choice(KINDS)
            if done.total() < kills:
                now = run.weights()
                if run.kill(kind, rng):
                    done[kind] += 1
                    whole = now | whole
        if run.process.returncode == 0:
            break
        if run.process.returncode == -signal.SIGKILL:
            run.unlock()
    after = run.weights()
    repeated = [path for path, file in whole.items() if after.get(path) != file]
    assert not repeated, f"trained again although whole: {repeated}"
    return starts


def check(run: Run, expected: dict):
    found = run.results()
    # A job for all tasks of a model trains those too that no table reads of it: other bundles lack them.
    wanted = {n for n in expected if run.settings.bundle == "all" or "finetune/" not in n}
    differing = [n for n in sorted({*found, *wanted}) if found.get(n) != expected.get(n)]
    assert not differing, f"not the bytes of the undisturbed run: {differing}"
    left = [str(p) for p in run._drafts()]
    left += [str(p) for p in run._files(run.settings.scratch) if p.is_file()]
    assert not left, f"left behind: {left}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundles", nargs="+", default=["all", "task", "cell"])
    parser.add_argument("--small", action="store_true", help="four models on one task")
    parser.add_argument("--at-once", type=int, default=1, help="bundles that run at the same time")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-")).resolve()
    start = time.monotonic()
    small = SMALL if options.small else {}
    run = Run(folder / "undisturbed", {"bundle": "all"} | small)
    run.start()
    assert run.process.wait() == 0, f"the undisturbed run failed: {run.copy.folder}/said.log"
    expected = run.results()
    undisturbed = time.monotonic() - start
    gaps = [share * undisturbed for share in GAPS]
    print(f"undisturbed: {len(expected)} files, {undisturbed:.0f} s", flush=True)

    def campaign(bundle: str):
        rng = random.Random(f"{options.seed} {bundle}")
        changes = {"bundle": bundle} | small
        told = disturbed(changes, options.kills, rng, gaps, expected, folder)
        told |= {"seconds": round(time.monotonic() - start)}
        print(json.dumps({"bundle": bundle} | told), flush=True)

    with ThreadPool(options.at_once) as pool:
        for _ in pool.imap_unordered(campaign, options.bundles):  # ends with the first that fails
            pass
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
