"""The default's Table 1 with a kill a minute: the weights and scores of a run that nobody disturbed.

python tests/chaos.py --undisturbed FOLDER/results

What is killed, and what follows: tests/kills.py.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from kills import KINDS, Run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--undisturbed", type=Path, required=True, help="results of the same Table 1"
    )
    parser.add_argument("--gap", type=float, default=60, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-")).resolve()
    run = Run(folder / "default", {}, preset=())
    run.targets = [run.settings.paths.table("table1", "tex")]
    start, kills, starts, whole = time.monotonic(), Counter(), 0, {}
    rng = random.Random(options.seed)
    while run.process is None or run.process.returncode != 0:
        if run.process is not None and run.process.returncode == -signal.SIGKILL:
            run.unlock()
        run.start()
        starts += 1
        while run.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(options.gap)
                break
            kind, now = rng.choice(KINDS), run.weights()
            if run.kill(kind, rng):
                kills[kind] += 1
                whole = now | whole
                told = f"{time.monotonic() - start:.0f} s, {kills.total()} kills: {kind}"
                print(f"{told}; {len(now)} trainings whole", flush=True)
    after = run.weights()
    repeated = [path for path, file in whole.items() if after.get(path) != file]
    assert not repeated, f"trained again although whole: {repeated}"
    results = run.copy.folder / run.settings.results
    found, expected = measured(results), measured(options.undisturbed)
    differing = [name for name, value in found.items() if expected.get(name) != value]
    assert not differing, f"not the undisturbed run's: {differing}"
    told = {"kills": dict(kills), "starts": starts, "seconds": round(time.monotonic() - start)}
    print(json.dumps(told | {"the same": len(found)}), flush=True)
    shutil.rmtree(folder)


def measured(results: Path) -> dict:
    """Digests of all weights, and all scores. Table 1 itself holds speed-ups, which vary."""
    weights = {
        path: sha256(path.read_bytes()).hexdigest() for path in results.rglob("*.safetensors")
    }
    scores = {
        path: json.loads(path.read_text())["scores"] for path in results.glob("scores/*/*.json")
    }
    return {str(path.relative_to(results)): value for path, value in (weights | scores).items()}


if __name__ == "__main__":
    main()
