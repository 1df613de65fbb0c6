"""Multiplexed models inside other machinery: Trainer on several devices, torch.compile, torch.export."""

import subprocess
import sys

import pytest
import torch
import train_on_devices
from conftest import build
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from muxplm.models.modeling import (
    MuxForMaskedLM,
    MuxForSequenceClassification,
    MuxForTokenClassification,
)

KINDS = [("hadamard", "rsa"), ("hadamard", "prefix"), ("contextual", "rsa")]
HEADS = [MuxForMaskedLM, MuxForSequenceClassification, MuxForTokenClassification]


# --- Trainer -----------------------------------------------------------------------------------


def test_accumulated_and_distributed_batches_train_as_one_large_batch(tmp_path):
    """The same rows share groups in all three, and plain SGD hides no factor of the gradient."""
    runs = [tmp_path / "whole", tmp_path / "halves", tmp_path / "devices"]
    train_on_devices.main(runs[0], rows=12, accumulation=1)
    train_on_devices.main(runs[1], rows=6, accumulation=2)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, train_on_devices.__file__, str(runs[2]), "6", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    whole, halves, devices = (load_file(folder / "model.safetensors") for folder in runs)
    for name, weight in whole.items():
        torch.testing.assert_close(halves[name], weight, rtol=1e-5, atol=1e-6, msg=name)
        torch.testing.assert_close(devices[name], weight, rtol=1e-5, atol=1e-6, msg=name)
    before = train_on_devices.make_model().classifier.weight
    assert (whole["classifier.weight"] - before).abs().max() > 1e-3


def test_trainer_predicts_logits_alone(tmp_path):
    """Also of a model whose loss has two parts, which its output holds too."""
    model = build(MuxForSequenceClassification, n=3, num_labels=4, retrieval_weight=0.1)
    rows = [{"input_ids": torch.arange(2, 14), "labels": torch.tensor(1)} for _ in range(7)]
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True)
    found = Trainer(model, arguments).predict(rows)
    assert found.predictions.shape == (7, 4)


# --- torch.compile, torch.export ---------------------------------------------------------------


@pytest.mark.parametrize(("multiplexer", "demultiplexer"), KINDS)
@pytest.mark.parametrize("head", HEADS)
def test_compiled_without_a_break_at_one_shape(head, multiplexer, demultiplexer, ids, mask):
    """Seven rows, so filler is part of the graph. The backend changes no numerics: capture is tested."""
    model = build(head, n=3, multiplexer=multiplexer, demultiplexer=demultiplexer, num_labels=4)
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend=backend)
    with torch.no_grad():
        for shown in (mask, mask.flip(0)):
            found = compiled(input_ids=ids, attention_mask=shown).logits
            expected = model(input_ids=ids, attention_mask=shown).logits
            torch.testing.assert_close(found, expected)
    assert len(graphs) == 1


@pytest.mark.parametrize(("multiplexer", "demultiplexer"), KINDS)
@pytest.mark.parametrize("head", HEADS)
def test_exported_at_one_shape(head, multiplexer, demultiplexer, ids, mask):
    model = build(head, n=3, multiplexer=multiplexer, demultiplexer=demultiplexer, num_labels=4)
    with torch.no_grad():
        program = torch.export.export(model, (), {"input_ids": ids, "attention_mask": mask})
        others = {"input_ids": ids.flip(0), "attention_mask": mask.flip(0)}
        torch.testing.assert_close(program.module()(**others).logits, model(**others).logits)
