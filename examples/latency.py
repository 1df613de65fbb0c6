"""Throughput and latency of examples/serve.py against fill: clients by N, on loopback.

    python examples/latency.py

Random weights and texts. A client sends a text, waits for its answer, and sends the next one.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas

from muxplm.benchmarks.overhead import draw, save
from muxplm.benchmarks.shapes import SIZES, base_config


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--n", type=int, nargs="+", default=[1, 2, 10])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=15, help="Of each measurement.")
    given = parser.parse_args()
    words, texts = draw(2000)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for n in given.n:
            config = base_config(n, SIZES[given.size])  # plain BERT at N = 1
            model = save(Path(folder, f"n{n}"), "text-classification", config, words)
            with served(model) as port:
                for clients in given.clients:
                    lines.append({"N": n, **load_test(port, texts, clients, given.seconds)})
    print(pandas.DataFrame(lines).to_markdown(index=False, disable_numparse=True))


class served:
    """A context in which the folder is served, at the port that it yields; options: serve.py's."""

    def __init__(self, folder: Path, *options: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, str(Path(__file__).with_name("serve.py")), str(folder)]
        command += ["--port", str(self.port), *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **quiet, start_new_session=True)

    def __enter__(self) -> int:
        end = time.monotonic() + 180
        while time.monotonic() < end and self.process.poll() is None:
            try:
                ask(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60), "ready")
                return self.port
            except OSError:
                time.sleep(0.2)
        self.__exit__()
        raise RuntimeError("the server did not start: run examples/serve.py to see why")

    def __exit__(self, *_):
        # The server's workers, too, which outlive it when it alone is told to end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def load_test(port: int, texts: list[str], clients: int, seconds: float) -> dict:
    """Requests a second and latencies of so many clients, after a fifth of the time to warm up."""
    start = time.perf_counter() + seconds / 5
    end = start + seconds

    def client(number: int) -> list[float]:
        connection, found = http.client.HTTPConnection("127.0.0.1", port, timeout=60), []
        turn = number
        while (sent := time.perf_counter()) < end:
            ask(connection, texts[turn % len(texts)])
            turn += clients
            if sent >= start:
                found.append(time.perf_counter() - sent)
        return found

    with ThreadPoolExecutor(clients) as pool:
        found = np.array([t for times in pool.map(client, range(clients)) for t in times])
    middle, worst = 1000 * np.percentile(found, [50, 99])
    return {
        "clients": clients,
        "requests/s": f"{len(found) / seconds:.1f}",
        "p50, ms": f"{middle:.0f}",
        "p99, ms": f"{worst:.0f}",
    }


def ask(connection, text: str) -> dict:
    body, headers = json.dumps({"text": text}), {"Content-Type": "application/json"}
    connection.request("POST", "/predict", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the server answered {answer.status}: {content[:200]!r}")
    return json.loads(content)


if __name__ == "__main__":
    main()
