"""The default's Table 1 with a kill a minute: the weights and scores of a run that nobody disturbed.

    python tests/chaos.py --undisturbed FOLDER/results

FOLDER: where `make table1` ran at this commit. What is killed, and what follows: tests/kills.py.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from hashlib import sha256
from math import inf
from pathlib import Path

from kills import Run, to_the_end


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--undisturbed", type=Path, required=True)
    parser.add_argument("--gap", type=float, default=60, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-")).resolve()
    run = Run(folder / "default", {}, preset=())
    run.targets = [run.settings.paths.table("table1", "tex")]
    start, kills = time.monotonic(), Counter()
    gaps = (options.gap, options.gap)
    starts = to_the_end(run, inf, random.Random(options.seed), gaps, kills)
    told = {"kills": dict(kills), "starts": starts, "seconds": round(time.monotonic() - start)}
    found = measured(run.copy.folder / run.settings.results)
    expected = measured(options.undisturbed)
    differing = [name for name, value in found.items() if expected.get(name) != value]
    assert not differing, f"not the undisturbed run's: {differing}"
    print(json.dumps(told | {"the same": len(found)}))
    shutil.rmtree(folder)


def measured(results: Path) -> dict:
    """Digests of all weights, and all scores. Table 1 itself holds speed-ups, which vary."""
    found = {p: sha256(p.read_bytes()).hexdigest() for p in results.rglob("*.safetensors")}
    found |= {p: json.loads(p.read_text())["scores"] for p in results.glob("scores/*/*.json")}
    return {str(path.relative_to(results)): value for path, value in found.items()}


if __name__ == "__main__":
    main()
