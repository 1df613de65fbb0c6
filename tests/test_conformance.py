"""Multiplexed models beside transformers' own classes: what those take and give, ours do.

Every difference that stays is a line of the table in docs/transformers.md, and has a check here.
"""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from accelerate import infer_auto_device_map
from conftest import VOCABULARY, build, make_config
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments

from muxplm.models.encoding import MuxModel
from muxplm.models.modeling import (
    MuxForMaskedLM,
    MuxForPreTraining,
    MuxForSequenceClassification,
    MuxForTokenClassification,
    MuxForTokenRetrieval,
)

ROWS, LENGTH, LABELS = 7, 12, 3
TASKS = {
    "MaskedLM": MuxForMaskedLM,
    "PreTraining": MuxForPreTraining,
    "SequenceClassification": MuxForSequenceClassification,
    "TokenClassification": MuxForTokenClassification,
}
HEADS = [*TASKS.values(), MuxForTokenRetrieval]
every_n = pytest.mark.parametrize("n", [1, 2, 3])
every_encoder = pytest.mark.parametrize("encoder", ["bert", "electra"])
every_task = pytest.mark.parametrize("task", TASKS)
every_head = pytest.mark.parametrize("head", HEADS)


def plain_class(encoder, task):
    family = "Electra" if task == "PreTraining" else encoder.capitalize()
    return getattr(transformers, f"{family}For{task}")


# What makes logits of states, in ours and theirs: the logits are its bias once its weight is zero.
LAST = {
    "BertForMaskedLM": "cls.predictions.decoder",
    "ElectraForMaskedLM": "generator_lm_head",
    "ElectraForPreTraining": "discriminator_predictions.dense_prediction",
    "BertForSequenceClassification": "classifier",
    "ElectraForSequenceClassification": "classifier.out_proj",
    "BertForTokenClassification": "classifier",
    "ElectraForTokenClassification": "classifier",
    "MuxForPreTraining": "discriminator",
    "MuxForSequenceClassification": "classifier",
    "MuxForTokenClassification": "classifier",
    "MuxForMaskedLM": "lm_head",
}


def pair(encoder, task, n, **changes):
    """Our model and theirs, whose logits are the same at every row and position."""
    ours = build(TASKS[task], encoder=encoder, n=n, **changes)
    theirs_class = plain_class(encoder, task)
    shape = make_config(encoder="electra" if task == "PreTraining" else encoder).encoder.to_dict()
    theirs = theirs_class(theirs_class.config_class(**(shape | changes))).eval()
    with torch.no_grad():
        for model in (ours, theirs):
            last = model.get_submodule(LAST[type(model).__name__])
            matrix = ours.get_input_embeddings() if last is getattr(ours, "lm_head", 0) else last
            matrix.weight.zero_()
            last.bias.copy_(torch.linspace(-1, 1, len(last.bias)))
    return ours, theirs


def labels_of(task, ids):
    if task == "SequenceClassification":
        return torch.arange(ROWS) % LABELS
    chosen = torch.rand(ids.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    if task == "PreTraining":
        return chosen.long()
    return torch.where(chosen, ids if task == "MaskedLM" else ids % LABELS, -100)


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- Arguments and outputs --------------------------------------------------------------------------


@every_n
@every_encoder
@every_task
def test_the_loss_and_the_shapes_are_those_of_the_plain_class(task, encoder, n, ids, mask):
    ours, theirs = pair(encoder, task, n, num_labels=LABELS)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels_of(task, ids)}
    found, expected = ours(**batch), theirs(**batch)
    assert list(found) == list(expected) == ["loss", "logits"]
    assert type(found).mro()[1] is type(expected).mro()[1]  # a ModelOutput
    same(found.loss, expected.loss)
    same(found.logits, expected.logits)
    same(ours.train()(**batch).loss, expected.loss)  # where masked LM scores masked positions alone
    for form in ({"return_dict": False}, {}):
        ours.config.return_dict = theirs.config.return_dict = bool(form)
        found, expected = ours.eval()(**batch, **form), theirs(**batch, **form)
        assert isinstance(found, tuple)
        for one, other in zip(found, expected, strict=True):
            same(one, other)


PROBLEMS = [
    (1, None, torch.linspace(-2, 3, ROWS)),
    (1, "regression", torch.linspace(-2, 3, ROWS)),
    (LABELS, "regression", torch.linspace(-2, 3, ROWS * LABELS).view(ROWS, LABELS)),
    (LABELS, None, torch.arange(ROWS) % LABELS),
    (LABELS, "single_label_classification", torch.arange(ROWS) % LABELS),
    (LABELS, None, (torch.arange(ROWS * LABELS) % 2).view(ROWS, LABELS).float()),
    (LABELS, "multi_label_classification", torch.eye(LABELS).repeat(3, 1)[:ROWS]),
]


@every_n
@every_encoder
@pytest.mark.parametrize(("num_labels", "problem", "labels"), PROBLEMS)
def test_problem_types_have_the_plain_losses(num_labels, problem, labels, encoder, n, ids):
    changes = {"num_labels": num_labels, "problem_type": problem}
    ours, theirs = pair(encoder, "SequenceClassification", n, **changes)
    same(ours(ids, labels=labels).loss, theirs(ids, labels=labels).loss)
    assert ours.config.problem_type == theirs.config.problem_type is not None


@every_encoder
@pytest.mark.parametrize("task", [*TASKS, ""])
def test_arguments_are_the_plain_ones_in_the_plain_order(task, encoder):
    theirs = plain_class(encoder, task) if task else transformers.BertModel
    ours = TASKS[task] if task else MuxModel
    expected = list(inspect.signature(theirs.forward).parameters)
    decoders = {"encoder_hidden_states", "encoder_attention_mask", "past_key_values", "use_cache"}
    parameters = inspect.signature(ours.forward).parameters
    found = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    assert set(parameters) - set(found) <= {"instance"}  # which instance is read back
    assert found[:-1] == [name for name in expected if name not in decoders][:-1]


@every_n
@every_encoder
@pytest.mark.parametrize("demultiplexer", ["rsa", "prefix"])
def test_hidden_states_and_attentions_are_the_encoders(demultiplexer, encoder, n, ids, mask):
    """N copies of a row, each times 1 / sqrt(N), mix to its own embeddings: a plain model's input."""
    model = build(MuxModel, encoder=encoder, n=n, demultiplexer=demultiplexer)
    model.set_attn_implementation("eager")
    model.multiplexer.keys.fill_(n**-0.5)
    copies = (t.repeat_interleave(n, dim=0) for t in (ids, mask))
    wanted = {"output_hidden_states": True, "output_attentions": True}
    found = model(*copies, **wanted)
    assert list(found) == ["last_hidden_state", "hidden_states", "attentions"]
    assert found.last_hidden_state.shape == (ROWS * n, LENGTH, 16)
    p = model.config.prefix_length
    if not p:  # a prefix differs from instance to instance
        expected = model.encoder(ids, mask, **wanted)
        real = mask.bool()  # of padding only the plain model has an embedding
        for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
            same(one[real], other[real])
        for one, other in zip(found.attentions, expected.attentions, strict=True):
            same(one.transpose(1, 2)[real], other.transpose(1, 2)[real])  # (M, heads, L)
    assert [h.shape for h in found.hidden_states] == [(ROWS, p + LENGTH, 16)] * 3
    assert [a.shape for a in found.attentions] == [(ROWS, 2, p + LENGTH, p + LENGTH)] * 2
    model.config.output_hidden_states = True
    assert "hidden_states" in model(ids) and "attentions" not in model(ids)
    assert list(model(ids, output_hidden_states=False)) == ["last_hidden_state"]


@every_task
def test_every_head_hands_on_hidden_states_and_attentions(task, ids, mask):
    model = build(TASKS[task], num_labels=LABELS)
    model.set_attn_implementation("eager")
    wanted = {"output_hidden_states": True, "output_attentions": True}
    found = model(ids, mask, labels=labels_of(task, ids), **wanted)
    assert list(found) == ["loss", "logits", "hidden_states", "attentions"]
    expected = model.model(ids, mask, **wanted)
    same(found.hidden_states, expected.hidden_states)
    same(found.attentions, expected.attentions)


@pytest.mark.parametrize("dialect", ["paper", "released"])
@pytest.mark.parametrize("demultiplexer", ["rsa", "prefix"])
@pytest.mark.parametrize("multiplexer", ["hadamard", "contextual"])
@every_encoder
def test_embeddings_in_the_place_of_ids(encoder, multiplexer, demultiplexer, dialect, ids, mask):
    parts = {"multiplexer": multiplexer, "demultiplexer": demultiplexer, "dialect": dialect}
    parts["first_token_id"] = 2 if dialect == "released" else None
    model = build(MuxForTokenClassification, encoder=encoder, **parts)
    words = model.get_input_embeddings()(ids)
    same(model(inputs_embeds=words, attention_mask=mask).logits, model(ids, mask).logits)


def test_what_a_tokenizer_gives_is_taken(tokenizer):
    encoded = tokenizer(["w1 w2", "w3"], ["w4", "w5 w6"], padding=True, return_tensors="pt")
    assert encoded["token_type_ids"].any()
    for head in HEADS:
        model = build(head)
        without = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        same(model(**encoded).logits, model(**without).logits)


# --- Vocabulary, memory, precision, devices ----------------------------------------------------------


@every_n
@every_encoder
@pytest.mark.parametrize("dialect", ["paper", "released"])
@pytest.mark.parametrize("head", [MuxForMaskedLM, MuxForTokenRetrieval, MuxForTokenClassification])
def test_the_vocabulary_grows_and_shrinks(head, dialect, encoder, n, ids, tmp_path):
    model = build(head, encoder=encoder, n=n, dialect=dialect)
    words = head is not MuxForTokenClassification  # in the logits
    with torch.no_grad():
        before = model(ids).logits
        embeddings = model.resize_token_embeddings(VOCABULARY + 5, mean_resizing=False)
        after = model(ids).logits
    assert embeddings is model.get_input_embeddings()
    assert model.config.vocab_size == model.config.encoder.vocab_size == VOCABULARY + 5
    assert after.shape[-1] == before.shape[-1] + (5 if words else 0)
    same(after[..., : before.shape[-1]], before)
    model(torch.full_like(ids, VOCABULARY + 4), labels=torch.zeros_like(ids)).loss.backward()
    assert embeddings.weight.grad[VOCABULARY + 4].any()
    model.save_pretrained(tmp_path)
    same(head.from_pretrained(tmp_path).eval()(ids).logits, after)
    model.resize_token_embeddings(50)
    same(model(ids).logits, before[..., :50])


def test_a_bias_of_a_new_word_is_transformers(ids):
    ours, theirs = pair("bert", "MaskedLM", 2)
    for model in (ours, theirs):
        model.resize_token_embeddings(VOCABULARY + 5, mean_resizing=False)
        model.get_input_embeddings().weight.data.zero_()
    same(ours(ids).logits, theirs(ids).logits)


def test_the_vocabulary_matrix_is_the_word_embeddings(ids):
    model = build(MuxForMaskedLM)
    model.tie_weights()
    model.set_input_embeddings(torch.nn.Embedding(VOCABULARY, 16))
    assert model.get_input_embeddings() is model.model.encoder.embeddings.word_embeddings
    model.get_input_embeddings().weight.data.zero_()
    same(model(ids).logits, model.lm_head.bias.expand(ROWS, LENGTH, -1))


@every_n
@every_encoder
@pytest.mark.parametrize("multiplexer", ["hadamard", "contextual"])
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
def test_checkpointing_computes_twice_and_changes_no_gradient(
    multiplexer, encoder, n, ids, mask, monkeypatch
):
    model = build(MuxForMaskedLM, encoder=encoder, n=n, multiplexer=multiplexer).train()
    calls = []
    model.model.encoder.encoder.layer[0].attention.register_forward_hook(lambda *_: calls.append(1))
    gradients = []
    for _ in range(2):
        torch.manual_seed(3)  # for dropout
        model.zero_grad()
        model(ids, mask, labels=ids).loss.backward()
        gradients.append(
            {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
        )
        model.gradient_checkpointing_enable()
    assert len(calls) == 3  # once, and then twice
    assert model.is_activation_checkpointing
    for name, expected in gradients[0].items():
        same(gradients[1][name], expected)


@every_n
@every_encoder
@every_head
def test_half_precision(head, encoder, n, ids, mask, tmp_path):
    model = build(head, encoder=encoder, n=n, num_labels=LABELS)
    expected = model(ids, mask).logits.softmax(-1)
    model.save_pretrained(tmp_path)
    for dtype in (torch.bfloat16, torch.float16):
        half = head.from_pretrained(tmp_path, dtype=dtype).eval()
        assert {tensor.dtype for tensor in half.state_dict().values()} == {dtype}
        found = half(ids, mask).logits
        assert found.dtype == dtype
        assert (found.float().softmax(-1) - expected).abs().mean() < 0.05
        rows = head is MuxForSequenceClassification
        assert half(ids, mask, labels=ids[:, 0] % 2 if rows else ids % 2).loss.isfinite()


@every_encoder
@every_head
@pytest.mark.parametrize("demultiplexer", ["rsa", "prefix"])
def test_device_map_splits_a_model(head, demultiplexer, encoder, ids, mask, tmp_path):
    """Offloaded parts have their weights only while their own forward runs, wherever that is."""
    model = build(head, encoder=encoder, demultiplexer=demultiplexer)
    model.save_pretrained(tmp_path)
    parts = {name for name, _ in model.named_children()} - {"model"}
    parts |= {"model.demultiplexer", "model.encoder.encoder"}
    parts |= {"model.encoder.embeddings_project"} if encoder == "electra" else set()
    kept = ("model.multiplexer", "model.encoder.embeddings")
    places = dict.fromkeys(parts, "disk") | dict.fromkeys(kept, "cpu")
    places |= {"model.prefix_ids": "cpu"} if demultiplexer == "prefix" else {}
    split = head.from_pretrained(tmp_path, device_map=places, offload_folder=tmp_path / "offloaded")
    held = {name for name, tensor in split.named_parameters() if tensor.device.type == "cpu"}
    assert held and all(name.startswith("model.encoder.embeddings.") for name in held)
    same(split.eval()(ids, mask).logits, model(ids, mask).logits)


@every_encoder
def test_automatic_device_maps_split_the_encoder_between_layers_alone(encoder):
    model = build(MuxForMaskedLM, encoder=encoder)
    whole = {f"{encoder.capitalize()}Layer", "HadamardMultiplexer", "RSADemultiplexer"}
    assert whole | {"LanguageModelHead"} <= model._no_split_modules
    small = {0: 20_000, "cpu": 10**9}  # bytes: the first device holds a part of it
    places = infer_auto_device_map(model, small, no_split_module_classes=model._no_split_modules)
    assert len(set(places.values())) == 2
    inside = r"(model\.(multiplexer|demultiplexer)|lm_head|model\.encoder\.encoder\.layer\.\d+)\."
    assert not [name for name in places if re.match(inside, name)]


# --- Trainer -----------------------------------------------------------------------------------------


@every_n
@every_encoder
@every_task
def test_trainer_evaluates_with_metrics(task, encoder, n, ids, mask, tmp_path):
    """Rows of one length and labels in their places: metrics read what the model says of each."""
    labels = labels_of(task, ids)
    data = [
        {
            "input_ids": ids[i],
            "attention_mask": mask[i],
            "token_type_ids": ids[i] % 2,
            "labels": labels[i],
        }
        for i in range(ROWS)
    ]
    seen = []

    def metrics(predicted):
        seen.append(predicted)
        return {"seen": len(predicted.predictions)}

    model = build(TASKS[task], encoder=encoder, n=n, num_labels=LABELS)
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2 * n,
        per_device_eval_batch_size=2 * n,
        eval_strategy="steps",
        eval_steps=2,
        activation_checkpointing=True,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model, arguments, train_dataset=data, eval_dataset=data, compute_metrics=metrics
    )
    trainer.train()
    found, (predicted,) = trainer.state.log_history[0], seen
    assert found["eval_seen"] == ROWS and np.isfinite(found["eval_loss"])
    assert (predicted.label_ids == labels.numpy()).all()
    with torch.no_grad():
        expected = torch.cat(
            [
                model.eval()(*rows).logits
                for rows in zip(ids.split(2 * n), mask.split(2 * n), strict=True)
            ]
        )
    same(torch.from_numpy(predicted.predictions), expected)


# --- The table of docs/transformers.md ---------------------------------------------------------------


def a_rows_answer(ids, mask):
    model = build(MuxForSequenceClassification, n=2)
    assert not torch.allclose(model(ids).logits[0], model(ids[[0, 2]]).logits[0])
    same(model(ids).logits[6], model(ids[[6]]).logits[0])


def token_type_ids(ids, mask):
    for head in HEADS:
        model = build(head)
        same(model(ids, mask, ids % 2).logits, model(ids, mask).logits)


def position_ids(ids, mask):
    with pytest.raises(ValueError, match=r"position_ids is not taken: [^\n]*positions"):
        build(MuxForMaskedLM)(ids, position_ids=torch.arange(LENGTH)[None])


def attention_mask(ids, mask):
    model = build(MuxForMaskedLM)
    with pytest.raises(
        ValueError, match=r"attention_mask is \(7, 1, 1, 12\) where the rows are \(7"
    ):
        model(ids, mask[:, None, None])
    same(model(ids, mask.bool()).logits, model(ids, mask).logits)


def decoders(ids, mask):
    with pytest.raises(TypeError, match="encoder_hidden_states"):
        build(MuxForMaskedLM)(ids, encoder_hidden_states=torch.zeros(7, 12, 16))


def unknown(ids, mask):
    for name in ("attention_masks", "num_items_in_batch"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            build(MuxForMaskedLM)(ids, labels=ids, **{name: 3})
    assert not MuxForMaskedLM.accepts_loss_kwargs


def embeddings_with_labels(ids, mask):
    for head, weight in ((MuxForTokenRetrieval, 0.0), (MuxForTokenClassification, 0.1)):
        model = build(head, retrieval_weight=weight)
        words = model.get_input_embeddings()(ids)
        with pytest.raises(ValueError, match="retrieval reads tokens back"):
            model(inputs_embeds=words, labels=ids % 2)
    for given in ({}, {"input_ids": ids, "inputs_embeds": words}):
        with pytest.raises(ValueError, match="give either input_ids or inputs_embeds"):
            model(**given)


def layers(ids, mask):
    found = build(MuxModel, n=3, demultiplexer="prefix")(ids, mask, output_hidden_states=True)
    assert found.hidden_states[-1].shape == (3, 3 + LENGTH, 16)


def pooler(ids, mask):
    assert "pooler_output" not in build(MuxModel)(ids)


def sparse(ids, mask):
    labels = labels_of("MaskedLM", ids)
    where = (labels != -100).nonzero(as_tuple=True)
    model = build(MuxForMaskedLM)
    every = model(ids, mask, labels=labels)
    model.sparse_prediction = True
    some = model(ids, mask, labels=labels)
    same(some.logits, every.logits[where])
    same(some.loss, cross_entropy(every.logits[where], labels[where]))
    model.sparse_prediction = False
    in_training = model.train()(ids, mask, labels=labels)
    assert in_training.logits is None
    priming = build(MuxForTokenRetrieval)
    assert priming(ids, mask, labels=ids).logits.shape == (ROWS, LENGTH, VOCABULARY)
    assert priming.train()(ids, mask, labels=ids).logits is None


def numbers(ids, mask):
    several = torch.eye(LABELS).repeat(3, 1)[:ROWS]
    for labels, problem in ((several, "multi_label_classification"), (torch.arange(ROWS), None)):
        count = LABELS if problem else 1
        model = build(MuxForSequenceClassification, num_labels=count, problem_type=problem)
        same(model(ids, labels=labels.long()).loss, model(ids, labels=labels.float()).loss)


def output_embeddings(ids, mask):
    model = build(MuxForMaskedLM, tie_word_embeddings=False)
    assert model.get_output_embeddings() is None
    assert VOCABULARY not in model.lm_head.dense.weight.shape


def resizing(ids, mask):
    model = build(MuxForMaskedLM, demultiplexer="prefix")  # its ids are 50 to 53
    with pytest.raises(ValueError, match="uses token 53, so 53 embeddings are too few"):
        model.resize_token_embeddings(53)
    assert model.config.vocab_size == VOCABULARY
    model.resize_token_embeddings(54)
    assert model(ids).logits.shape[-1] == 54


def pretraining(ids, mask):
    found = transformers.AutoModelForPreTraining.from_config(make_config("bert"))
    assert found(ids).logits.shape == (ROWS, LENGTH)


def absent(ids, mask):
    for name in ("QuestionAnswering", "MultipleChoice", "NextSentencePrediction"):
        with pytest.raises(ValueError, match="Unrecognized configuration class"):
            getattr(transformers, f"AutoModelFor{name}").from_config(make_config("bert"))


def cut_rows(ids, mask):
    for head in (MuxForMaskedLM, MuxForPreTraining):
        model = build(head, demultiplexer="prefix", dialect="released")
        assert model(ids, labels=ids % 2).logits.shape[:2] == (ROWS, LENGTH - 4)
        assert model(ids).logits.shape[:2] == (ROWS, LENGTH)


CHECKS = {
    "a row's answer": a_rows_answer,
    "`token_type_ids`": token_type_ids,
    "`position_ids`": position_ids,
    "`attention_mask`": attention_mask,
    "`encoder_hidden_states`, `encoder_attention_mask`": decoders,
    "unknown arguments": unknown,
    "`inputs_embeds` with labels": embeddings_with_labels,
    "`hidden_states`, `attentions`": layers,
    "`pooler_output`": pooler,
    "logits of masked LM in training mode, with labels": sparse,
    "labels of numbers": numbers,
    "`get_output_embeddings`": output_embeddings,
    "`resize_token_embeddings`": resizing,
    "`AutoModelForPreTraining`": pretraining,
    "question answering, multiple choice, next sentences": absent,
    "released dialect with a prefix: rows of pre-training, with labels": cut_rows,
}


def test_the_table_has_every_difference_and_no_other():
    page = (Path(__file__).parents[1] / "docs/transformers.md").read_text()
    first, _, *lines = re.findall(r"^\| (.*?) \|", page, re.MULTILINE)
    assert first == "what" and lines == list(CHECKS)


@pytest.mark.parametrize("what", CHECKS)
def test_a_difference_is_as_the_table_says(what, ids, mask):
    CHECKS[what](ids, mask)
