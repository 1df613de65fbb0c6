"""CoFi's masks, losses and steps against their formulas; killed trainings; the sparsity reached."""

import math
from statistics import mean

import pytest
import torch
from small_training import make_data
from test_pruned import dense, outputs
from torch.nn import functional as F
from transformers import BertConfig

from muxplm.models.masks import Masks, expected_sparsity, shrink, sparsity
from muxplm.pruning.cofi import CoFi
from muxplm.pruning.distillation import Distilled, matched, prediction_loss, taught_layers
from muxplm.pruning.gates import BOUND, TOLERANCE, Gates
from muxplm.sections import Pruning
from muxplm.training import loop
from muxplm.training.loop import train

BASE = BertConfig()
CONFIG = dense(0).config


# --- Gates --------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(("log_alpha", "known"), [(0.0, 0.832), (4.605, 0.998), (-4.605, 0.047)])
def test_the_chance_of_a_gate_is_how_often_it_is_open(log_alpha, known):
    """200 x 42 samples: five standard errors are 0.021."""
    gates = Gates(CONFIG, seed=3)
    for parameter in gates.parameters():
        parameter.data.fill_(log_alpha)
    drawn = [gates.sample(gates.noise(step)).tensors() for step in range(200)]
    values = torch.cat([mask.flatten() for masks in drawn for mask in masks.values()])
    probabilities = gates.probabilities().heads
    assert probabilities.flatten().tolist() == pytest.approx([known] * 6, abs=5e-4)
    assert (values > 0).float().mean().item() == pytest.approx(known, abs=0.021)
    assert values.min() >= 0 and values.max() <= 1
    inner = values[(values > 0) & (values < 1)]
    assert len(inner) > 100  # soft between its ends


def test_a_sample_by_hand():
    gates = Gates(CONFIG, seed=0)
    gates.heads.data.fill_(0.4)
    noise = gates.noise(0)
    u = noise.heads[1, 0].item()
    s = sigmoid((math.log(u / (1 - u)) + 0.4) / (2 / 3))
    expected = min(1, max(0, 1.2 * s - 0.1))
    assert gates.sample(noise).heads[1, 0].item() == pytest.approx(expected, abs=1e-6)


def test_noise_depends_on_seed_and_step_alone():
    first, again, other = (Gates(CONFIG, seed).noise(4).heads for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, Gates(CONFIG, 1).noise(5).heads)


def test_the_start_is_that_of_the_authors_code():
    """A ninth of a base model is expected to go before anything is learnt: two thirds of it are
    feed-forward parts, whose dimensions start at 0.832, and all other masks at 0.998."""
    gates = Gates(BASE, seed=1)
    by_hand = 1 - (0.998**2 / 3 + 0.998 * 0.832 * 2 / 3)
    assert expected_sparsity(gates.probabilities(), BASE).item() == pytest.approx(by_hand, abs=5e-4)
    assert gates.heads.min() > BOUND - 0.06 and gates.heads.max() <= BOUND
    spread = gates.intermediates
    assert abs(spread.mean().item()) < 5e-4 and spread.std().item() == pytest.approx(0.01, abs=3e-4)


def test_settled_masks_close_as_many_as_are_expected_to_be():
    gates = Gates(CONFIG, seed=1)
    gates.intermediates.data[0] = torch.tensor([2.0, -3, 0, -1, 4, -2, -4, 1])
    gates.attention.data[:] = torch.tensor([-1.61, -1.59, 3.0])  # below and above half a chance
    masks = gates.settled()
    closed = sum(1 - sigmoid(a + 2 / 3 * math.log(11)) for a in (2, -3, 0, -1, 4, -2, -4, 1))
    order = [6, 1, 5, 3, 2, 7, 0, 4]
    assert torch.equal(
        (masks.intermediates[0] == 0).nonzero().flatten(),
        torch.tensor(sorted(order[: round(closed)])),
    )
    assert masks.intermediates[0, 4].item() == pytest.approx(sigmoid(1.2 * 4))
    assert (masks.attention > 0).tolist() == [False, True, True]


@pytest.mark.parametrize(("config", "granularity"), [(BASE, 0.001), (CONFIG, 0.28)])
def test_masks_of_the_targets_sparsity(config, granularity):
    """At a base shape to a tenth of a per cent; of three tiny layers each attention is 27 %."""
    gates, random = Gates(config, seed=1), torch.Generator().manual_seed(0)
    for parameter in gates.parameters():
        parameter.data.normal_(generator=random).mul_(1.5)
    for target in (0.05, 0.3, 0.6, 0.95):
        masks, shift = gates.at_sparsity(target)
        assert abs(sparsity(masks, config) - target) <= max(TOLERANCE, granularity)
        if shift == 0:
            assert sparsity(masks, config) == sparsity(gates.settled(), config)
    unshifted = sparsity(gates.settled(), config)
    assert gates.at_sparsity(unshifted + TOLERANCE / 2)[1] == 0.0


# --- What is learnt -----------------------------------------------------------------------------


def test_a_quarter_each_of_the_teachers_layers():
    assert taught_layers(12) == [2, 5, 8, 11]
    assert [taught_layers(n) for n in (1, 2, 3, 4)] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_layers_are_matched_from_the_last_down():
    """Strictly below the one before, the nearest; the lowest again where none is below it."""
    near = [{0: 0.5, 1: 0.1, 3: 0.9}, {0: 0.7, 1: 0.2, 3: 0.1}, {0: 0.9, 1: 0.8, 3: 0.3}]
    found = matched([{i: torch.tensor(d) for i, d in row.items()} for row in near])
    assert found == [0, 1, 3]
    assert matched([{2: torch.tensor(0.1)}, {2: torch.tensor(0.2)}]) == [2, 2]


def test_predictions_are_compared_by_kind():
    random = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 3, generator=random) for _ in range(2))
    p, q = (torch.softmax(x / 2, -1) for x in (teacher, student))
    expected = 4 * (p * (p.log() - q.log())).sum(-1).mean()
    found = prediction_loss(student, teacher, "classification", None)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    labels = torch.tensor([[-100, 1], [0, -100]])
    found = prediction_loss(student.view(2, 2, 3), teacher.view(2, 2, 3), "tagging", labels)
    expected = 4 * (p * (p.log() - q.log())).sum(-1)[[1, 2]].mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    student, teacher = student[:, :1], teacher[:, :1]
    found = prediction_loss(student, teacher, "regression", None)
    assert found.item() == pytest.approx((student - teacher).square().mean().item())


PRUNING = {
    "steps": {"sst2": 8},
    "final_steps": {"sst2": 4},
    "rows": 8,
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-3,
    "adam_epsilon": 1e-4,
    "save_every": 3,
}
KINDS = {"sequence": "classification", "token": "tagging"}


def make(n=2, head="sequence", target=0.5, seed=0, **changes):
    """A student with its teacher, the same model."""
    student, teacher = (dense(n, head) for _ in range(2))
    pruning = Pruning(**PRUNING | changes)
    return CoFi(student.train(), teacher, KINDS[head], target, pruning, seed)


def batch(head="sequence", rows=7):
    data, collate = make_data(KINDS[head])
    made = collate(data[:rows])
    made["labels"] = made["labels"].clamp(max=2)  # three classes
    return made


@pytest.mark.parametrize(("n", "head"), [(0, "sequence"), (2, "sequence"), (2, "token")])
def test_the_loss_by_hand(n, head):
    """The teacher's part and the multipliers', each from the models' own outputs."""
    cofi, given = make(n, head, mask_learning_rate=0.1, sparsity_warmup=0.5), batch(head)
    cofi.student.eval()
    cofi.multipliers.data[:] = torch.tensor([0.7, 2.0])
    cofi.begin(2, 8)
    assert cofi.now == 0.25  # half of the warm-up's four steps
    found = cofi(**given)["loss"]
    inputs = (given["input_ids"], given["attention_mask"])
    learnt = cofi.student(*inputs, output_hidden_states=True)  # under the masks just drawn
    taught = cofi.unregistered[0](*inputs, output_hidden_states=True)
    predictions = prediction_loss(learnt.logits, taught.logits, KINDS[head], given["labels"])
    kept, layers, last = cofi.hooks.masks.kept, 0.0, 3
    there = (kept.attention | kept.feed_forward).tolist()
    for target in (2, 1, 0):
        distances = {
            i: F.mse_loss(learnt.hidden_states[1 + i], taught.hidden_states[1 + target]).item()
            for i in range(3)
            if there[i]
        }
        below = {i: d for i, d in distances.items() if i < last} or {last: distances[last]}
        last = min(below, key=below.get)
        layers += distances[last]
    s = expected_sparsity(cofi.gates.probabilities(), CONFIG).item()
    lagrangian = 0.7 * (s - 0.25) + 2.0 * (s - 0.25) ** 2
    assert found.item() == pytest.approx(
        0.1 * predictions.item() + 0.9 * layers + lagrangian, abs=1e-5
    )


def test_a_student_without_masks_is_its_teacher():
    student, teacher = dense(2), dense(2)
    small = shrink(student, Masks.ones(CONFIG))
    found = Distilled(small, teacher, "classification", 0.9)(**batch())["loss"]
    assert found.item() == pytest.approx(0, abs=1e-6)
    small = shrink(student, Masks.ones(CONFIG))
    small.model.encoder.encoder.layer[1].output.dense.weight.data *= 2
    assert Distilled(small, teacher, "classification", 0.9)(**batch())["loss"] > 1e-3


def test_gradients_reach_what_learns_and_nothing_else():
    cofi = make()
    cofi.multipliers.data[:] = 1.0
    cofi.begin(3, 8)
    cofi(**batch())["loss"].backward()
    without = {k for k, p in cofi.named_parameters() if p.grad is None or not p.grad.any()}
    embeddings = {k for k, p in cofi.named_parameters() if ".embeddings." in k}
    assert embeddings <= without
    assert all("key.bias" in name for name in without - embeddings)
    assert all(p.grad is None for p in cofi.unregistered[0].parameters())
    assert not any("unregistered" in name for name in cofi.state_dict())


# --- The training -------------------------------------------------------------------------------


def fit(cofi, scratch, steps=8, **changes):
    data, collate = make_data("tagging" if cofi.kind == "tagging" else "classification")
    for row in data:
        row["labels"] = [min(x, 2) for x in row["labels"]] if cofi.kind == "tagging" else 1
    settings = {"steps": steps, "instances": 2, "seed": 3, "precision": "fp32", "scratch": scratch}
    log, _, _ = train(
        cofi, data, collate, cofi.pruning, title="prune", beside=cofi, **settings | changes
    )
    return dict(cofi.named_parameters()), log


def test_masks_climb_and_multipliers_ascend_as_adam_has_it(tmp_path, monkeypatch):
    """Rates of their own, no clipping, log alpha within its bounds; by an AdamW for each, by hand."""
    monkeypatch.setattr(
        loop, "CLIP", 1e-4
    )  # would hardly move anything, but Adam's epsilon is smaller
    cofi = make(mask_learning_rate=0.3, sparsity_warmup=0.0)
    twin = make(mask_learning_rate=0.3, sparsity_warmup=0.0)
    found = []

    def recorded(model, batch, shares):
        model.noted = [p.detach().clone() for p in (model.multipliers, model.gates.heads)]
        loss = model(**batch)["loss"]
        loss = loss * shares[0]
        gradients = torch.autograd.grad(
            loss, [model.multipliers, model.gates.heads], retain_graph=True
        )
        found.append((model.noted, gradients))
        return loss

    monkeypatch.setattr(loop, "part_of_loss", recorded)
    fit(cofi, tmp_path, steps=6)
    by_hand = [twin.multipliers, twin.gates.heads]
    by_adam = torch.optim.AdamW(by_hand, lr=0.3, weight_decay=0.0, eps=1e-4)
    assert len(found) == 6
    for values, gradients in found:
        for parameter, value, gradient in zip(by_hand, values, gradients, strict=True):
            torch.testing.assert_close(parameter.data, value, rtol=0, atol=1e-5)
            parameter.grad = gradient
        by_hand[0].grad = -by_hand[0].grad  # they climb
        by_adam.step()
        by_hand[1].data.clamp_(-BOUND, BOUND)
    assert found[-1][0][0][1] > 0.1  # the square's multiplier only grows
    assert cofi.gates.heads.abs().max() <= BOUND


@pytest.mark.parametrize("head", ["sequence", "token"])
def test_a_killed_training_goes_on_to_the_same_end(head, tmp_path, monkeypatch):
    """To the bit: weights, masks, multipliers and log; killed in its sixth step, it has seen five."""
    whole = fit(make(head=head), tmp_path / "1", steps=11)

    class Killed(BaseException):
        pass

    begin = CoFi.begin

    def killing(self, step, steps):
        if step == 5 and steps == 11:
            raise Killed
        begin(self, step, steps)

    monkeypatch.setattr(CoFi, "begin", killing)
    with pytest.raises(Killed):
        fit(make(head=head), tmp_path / "2", steps=11)
    assert [path.name for path in (tmp_path / "2").iterdir()] == ["checkpoint-3"]
    monkeypatch.setattr(CoFi, "begin", begin)
    again = fit(make(head=head), tmp_path / "2", steps=11)
    assert all(torch.equal(weight, again[0][name]) for name, weight in whole[0].items())
    assert whole[1] == again[1]
    assert {"step", "loss", "sparsity", "expected", "asked"} <= set(whole[1][0])


def test_the_sparsity_rises_to_the_target(tmp_path, capfd, target=0.6):
    """Within the reach of three tiny layers; what is then shrunk has the settled masks' answers."""
    cofi = make(0, target=target, mask_learning_rate=0.12, sparsity_warmup=0.5, rows=2)
    _, log = fit(cofi, tmp_path, steps=240, instances=1)
    expected = [entry["expected"] for entry in log]
    assert expected[0] < 0.1 and mean(expected[-3:]) == pytest.approx(target, abs=0.03)
    assert [e["asked"] for e in log][-10:] == [target] * 10
    masks, _ = cofi.gates.at_sparsity(target)
    cofi.hooks.masks = masks
    cofi.student.eval()
    given = batch()
    inputs = (given["input_ids"], given["attention_mask"])
    pairs = zip(
        outputs(cofi.student, *inputs), outputs(shrink(cofi.student, masks), *inputs), strict=True
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    said = "".join(capfd.readouterr())
    assert "prune: step 240/240, loss" in said and f"asked {target:.3f}" in said


def test_a_step_is_the_same_however_it_is_cut(tmp_path):
    """But for the layers' mean over positions, whose padding depends on what a part holds."""
    runs = []
    for rows, accumulation in ((8, 1), (4, 2), (1, 8)):
        cofi = make(rows=rows, accumulation=accumulation, layer_weight=0.0)
        for module in cofi.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        runs.append(fit(cofi, tmp_path / str(rows), steps=3))
    for weights, log in runs[1:]:
        for name, weight in runs[0][0].items():
            torch.testing.assert_close(weight, weights[name], rtol=0, atol=1e-5, msg=name)
        assert log[0]["loss"] == pytest.approx(runs[0][1][0]["loss"], abs=1e-5)
