"""The scripts of examples/ as they stand."""

import importlib.util
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import WORDS, build

from muxplm.models.modeling import MuxForSequenceClassification
from muxplm.prediction import load

EXAMPLES = Path(__file__).parents[1] / "examples"


def script(name: str):
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, tokenizer):
    build(MuxForSequenceClassification, n=3, num_labels=3).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_what_the_server_answers(folder, monkeypatch):
    """Its class, without the server that calls it."""
    api = type("LitAPI", (), {"__init__": lambda self, **batching: None})
    monkeypatch.setitem(sys.modules, "litserve", SimpleNamespace(LitAPI=api))
    server = script("serve").Classifier(str(folder), "fp32", max_batch_size=24)
    server.setup("cpu")
    texts = [server.decode_request({"text": word}) for word in [*WORDS[:6], "w1 " * 60]]
    answers = server.unbatch(server.predict(server.batch(texts)))
    found = [server.encode_response(answer) for answer in answers]
    answer, _ = load(folder, ["text"], 1)
    expected = answer(texts, truncation=True)
    assert [one["label"] for one in found] == [one["label"] for one in expected]
    scores = [one["score"] for one in expected]
    assert [one["score"] for one in found] == pytest.approx(scores, abs=1e-5)


def test_requests_are_answered_over_http(folder):
    """One after the other, each alone in its group, as the pipeline answers; then many at once."""
    pytest.importorskip("litserve", reason="needs the extra serving: pip install 'muxplm[serving]'")
    latency = script("latency")
    answer, settings = load(folder, ["text"], 1)
    serving = latency.served(folder, "--precision", "fp32")
    with serving as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        for text in (*WORDS[:3], " ".join(WORDS)):  # the last one is longer than the model takes
            (expected,) = answer.answers([text], 1, **settings)
            found = latency.ask(connection, text)
            assert found["label"] == expected["label"]
            assert found["score"] == pytest.approx(expected["score"], abs=1e-5)

        def client(text):
            return latency.ask(HTTPConnection("127.0.0.1", port, timeout=60), text)

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(client, WORDS))
        assert len(found) == len(WORDS)
        assert all(0 < one["score"] <= 1 for one in found)
        measured = latency.load_test(port, WORDS, 2, 0.5)
        assert measured["clients"] == 2 and float(measured["requests/s"]) > 0
        with pytest.raises(RuntimeError, match="the server answered"):
            latency.ask(connection, None)
    with pytest.raises(ProcessLookupError):  # nothing of it is left
        for _ in range(50):
            os.killpg(serving.process.pid, 0)
            time.sleep(0.1)
