"""The workflow on the authors' checkpoints, with a mirror of random weights in the place of the Hub."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from test_conversion import MLM, SEQUENCE, TOKEN, make_config, make_weights, write
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, RobertaTokenizer

from muxplm import config as configuration
from muxplm import experiments, lineage
from muxplm.data.collation import tokenize_task
from muxplm.evaluation.metrics import score
from muxplm.evaluation.score import validation_rows
from muxplm.files import DataError, read_json
from muxplm.models.build import load_model
from muxplm.released_checkpoints import published_id, released_id
from muxplm.tasks import TASKS
from muxplm.training.fetching import fetch
from muxplm.training.stages import finetune

ROOT = Path(__file__).parents[1]
NAME = "mux-bert-base-n2"
FEW = {
    "families": ["mux-bert"],
    "sizes": ["base"],
    "instances": [2],
    "tasks": ["sst2"],
    "composition_seeds": [1, 2, 3],
    "tokenizer": {"vocab_size": 700, "trim": False},  # the mirror's models know 720 ids
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(settings, what Snakemake said) of a run that made Table `released` and one score."""
    folder = tmp_path_factory.mktemp("released")
    variant = experiments.Variant("mux-bert", n=2)
    for hub_id, head in (
        (released_id(variant), MLM),
        (published_id(variant, "sst2"), SEQUENCE),
    ):
        theirs = make_config("bert", head, depth=2 if head == MLM else 3)
        theirs |= {"id2label": {"0": "no", "1": "yes"}}
        theirs |= {"label2id": {"no": 0, "yes": 1}}
        weights = make_weights(theirs)
        weights |= {k: v[:2] for k, v in weights.items() if k.startswith("classifier.")}
        write(folder / "mirror" / hub_id, theirs, weights)
    return run(folder, FEW, NAME, "released", "sst2")


def run(folder, few, name, table, task):
    """Snakemake makes the table, and the model's score on one task, from the mirror in `folder`."""
    changes = {"results": f"{folder}/results", "scratch": f"{folder}/scratch"}
    changes |= {"released": {"mirror": f"{folder}/mirror"}} | few
    (folder / "few.yaml").write_text(yaml.safe_dump(changes))
    settings = configuration.load([ROOT / "config/smoke.yaml", folder / "few.yaml"])
    targets = [settings.paths.table(table, "md"), settings.paths.scores(name, task)]
    files = ["config/smoke.yaml", f"{folder}/few.yaml"]
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", *files, "--"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*command, *targets], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return settings, done.stderr


@pytest.mark.parametrize(
    ("family", "size", "task"),
    [("bert", "base", "sst2"), ("mux-bert", "base", "cola"), ("mux-bert", "large", "sst2")],
)
def test_what_was_not_published_fine_tuned_is_named(family, size, task):
    variant = experiments.Variant(family, size, n=1 if family == "bert" else 2)
    with pytest.raises(
        DataError, match=f"of {variant.name} no checkpoint fine-tuned on {task} was"
    ):
        published_id(variant, task)


def test_nothing_is_primed_or_pretrained(world):
    settings, said = world
    assert said.count("the authors' checkpoint of") == 2  # pre-trained, and fine-tuned
    assert "priming" not in said and "pre-training" not in said
    record = read_json(Path(settings.paths.checkpoint("pretrain", NAME)).with_name("run.json"))
    assert record["hub_id"] == "princeton-nlp/muxbert_base_gaussian_hadamard_index_pos_2"


def test_fine_tuning_starts_from_the_released_weights(world):
    settings, _ = world
    folder = Path(settings.paths.finetuned(NAME, "sst2", 1)).parent
    model = load_model("classification", folder)
    assert model.config.dialect == "released"
    before = load_model("mlm", Path(settings.paths.checkpoint("pretrain", NAME)).parent)
    assert torch.equal(model.model.multiplexer.keys, before.model.multiplexer.keys)
    change = model.get_input_embeddings().weight - before.get_input_embeddings().weight
    assert 0 < change.abs().max() < 0.01  # three steps away


def test_fine_tuning_trains_the_second_layer_of_a_demultiplexer_of_two(world):
    """The authors fine-tune with D = 3, and the last layer is the one that is not read."""
    settings, _ = world
    before = load_model("mlm", Path(settings.paths.checkpoint("pretrain", NAME)).parent)
    after = load_model("classification", Path(settings.paths.finetuned(NAME, "sst2", 1)).parent)
    assert (before.config.demultiplexer_layers, after.config.demultiplexer_layers) == (2, 3)
    pairs = zip(after.model.demultiplexer.layers, before.model.demultiplexer.layers, strict=False)
    ((new, old),) = pairs
    assert 0 < (new.weight - old.weight).abs().max() < 0.01  # three steps away


def test_the_table_is_of_the_published_models_own_predictions(world):
    """Recomputed in plain loops: rows padded to one length, in groups of the seed's order."""
    settings, _ = world
    task, rows = TASKS["sst2"], validation_rows(settings, TASKS["sst2"])
    folder = Path(settings.paths.published(NAME, "sst2")).parent
    model = load_model("classification", folder).eval()
    length, accuracies = model.config.padded_length, []
    for seed in FEW["composition_seeds"]:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        hits = 0
        for start in range(0, len(order), 2):
            group = order[start : start + 2]
            ids = torch.zeros(2, length, dtype=torch.long)
            for place, i in enumerate((group * 2)[:2]):
                ids[place, : len(rows[i]["input_ids"])] = torch.tensor(rows[i]["input_ids"])
            with torch.no_grad():
                found = model(ids).logits.argmax(-1).tolist()
            hits += sum(rows[i]["labels"] == p for i, p in zip(group, found, strict=False))
        accuracies.append(100 * hits / len(rows))
    table = pd.read_csv(settings.paths.table("released", "csv"))
    cell = table[table["column"] == task.name].iloc[0]
    assert cell["measured"] == pytest.approx(sum(accuracies) / 3)
    assert cell["paper"] == pytest.approx(90.8, abs=3)  # Table 9 has it


# --- T-MUX, whose checkpoints are RoBERTa's ---------------------------------------------------------


TMUX = "tmux-base-n2"
FEW_TMUX = FEW | {"families": ["tmux"], "tasks": ["ner"]}


@pytest.fixture(scope="module")
def tmux_world(tmp_path_factory):
    """As `world`, with a byte-level tokenizer like RoBERTa's, whose padding is no 0."""
    folder = tmp_path_factory.mktemp("tmux")
    variant = experiments.Variant("tmux", n=2)
    for hub_id, head, coefficients in (
        (released_id(variant), SEQUENCE, (1.0, 0.0)),
        (published_id(variant, "ner"), TOKEN, (0.1, 0.9)),
    ):
        theirs = make_config("roberta", head, "index")
        theirs |= dict(zip(("retrieval_loss_coeff", "task_loss_coeff"), coefficients, strict=True))
        write(folder / "mirror" / hub_id, theirs, make_weights(theirs))
    bytes_ = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bytes_.train_from_iterator(["the old doctor helps the boys"] * 3, 300, special_tokens=special)
    (folder / "tokenizer").mkdir()
    bytes_.save_model(str(folder / "tokenizer"))
    names = [str(folder / "tokenizer" / name) for name in ("vocab.json", "merges.txt")]
    RobertaTokenizer(*names).save_pretrained(folder / "tokenizer")
    pretrained = {"pretrained": f"{folder}/tokenizer", "vocab_size": 300}
    few = FEW_TMUX | {"tokenizer": pretrained}
    return run(folder, few, TMUX, "released_tmux", "ner")


def test_tmux_is_fine_tuned_from_its_retrieval_checkpoint(tmux_world):
    settings, said = tmux_world
    assert "priming" not in said
    released = load_model("retrieval", Path(settings.paths.checkpoint("pretrain", TMUX)).parent)
    assert not any(name.startswith("classifier") for name in released.state_dict())
    model = load_model("tagging", Path(settings.paths.finetuned(TMUX, "ner", 1)).parent)
    assert model.config.encoder.model_type == "roberta"
    assert model.config.retrieval_weight == 0.1
    assert model.config.num_labels == len(TASKS["ner"].labels)
    change = model.lm_head.weight - released.lm_head.weight
    assert 0 < change.abs().max() < 0.01  # three steps away


def test_tmuxs_published_models_are_scored(tmux_world):
    settings, _ = tmux_world
    table = pd.read_csv(settings.paths.table("released_tmux", "csv")).set_index("column")
    task, rows = TASKS["ner"], validation_rows(settings, TASKS["ner"])
    model = load_model("tagging", Path(settings.paths.published(TMUX, "ner")).parent).eval()
    found = []
    for seed in FEW["composition_seeds"]:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        predicted = [None] * len(rows)
        for start in range(0, len(order), 2):
            group = order[start : start + 2]
            ids = torch.full((2, model.config.padded_length), 1)
            for place, i in enumerate((group * 2)[:2]):
                ids[place, : len(rows[i]["input_ids"])] = torch.tensor(rows[i]["input_ids"])
            with torch.no_grad():
                best = model(ids, (ids != 1).long()).logits.argmax(-1).tolist()
            for place, i in enumerate(group):
                tags = zip(best[place], rows[i]["labels"], strict=False)
                predicted[i] = [tag for tag, label in tags if label != -100]
        labels = [[label for label in row["labels"] if label != -100] for row in rows]
        found.append(100 * score(task, predicted, labels)[task.metric])
    assert table.loc["ner", "measured"] == pytest.approx(sum(found) / 3)


def test_a_word_begins_with_its_space(tmux_world):
    """As RoBERTa sees it inside a sentence; the first word of a row too."""
    settings, _ = tmux_world
    tokenizer = AutoTokenizer.from_pretrained(Path(settings.paths.tokenizer).parent)
    data = {"tokens": [["the", "old", "boys"]], "ner_tags": [[0, 0, 1]]}
    (row,) = tokenize_task(TASKS["ner"], data, tokenizer, 32)
    assert row["input_ids"] == tokenizer(" the old boys")["input_ids"]
    assert row["labels"][0] == row["labels"][-1] == -100
    assert [label for label in row["labels"] if label != -100] == [0, 0, 1]


def test_what_the_mirror_lacks_is_named(world, tmp_path):
    settings, _ = world
    lacking = settings.released.model_copy(update={"mirror": str(tmp_path)})
    with pytest.raises(DataError, match="muxbert_base_gaussian_hadamard_index_pos_2 is missing"):
        fetch(settings.model_copy(update={"released": lacking}), NAME)
    own = settings.model_copy(update={"released": None})
    with pytest.raises(DataError, match=r"lay config/released\.yaml over it"):
        fetch(own, NAME)


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused(world, tmp_path):
    settings, _ = world
    paths = settings.paths
    larger = settings.model_copy(update={"results": str(tmp_path / "results")})
    shutil.copytree(Path(settings.results, "data"), Path(larger.results, "data"))
    before = Path(paths.checkpoint("pretrain", NAME)).parent
    shutil.copytree(before, Path(larger.paths.checkpoint("pretrain", NAME)).parent)
    tokenizer = AutoTokenizer.from_pretrained(Path(paths.tokenizer).parent)
    tokenizer.add_tokens([f"new{i}" for i in range(100)])
    tokenizer.save_pretrained(Path(larger.paths.tokenizer).parent)
    with pytest.raises(DataError, match="knows 720 tokens and the tokenizer has 800"):
        finetune(larger, NAME, ["sst2"], [1])


def test_tmuxs_grid_is_what_its_authors_released():
    files = [ROOT / "config/released.yaml", ROOT / "config/released-tmux.yaml"]
    settings = configuration.load(files)
    ids = [released_id(variant) for variant in settings.variants.values()]
    assert ids == [f"princeton-nlp/datamux-retrieval-{n}" for n in (2, 5, 10, 20, 40)]
    target = experiments.TABLES["released_tmux"]
    tables = lineage.inputs(target, settings)
    assert len(tables) == 5 * 5


def test_the_grid_is_what_the_authors_released():
    settings = configuration.load([ROOT / "config/released.yaml"])
    ids = [released_id(variant) for variant in settings.variants.values()]
    # BERT's sizes, ELECTRA, MUX-BERT, contextual, MUX-ELECTRA.
    assert len(set(ids)) == len(ids) == 3 + 1 + 9 + 3 + 3
    assert None not in ids
    assert "princeton-nlp/muxbert_base_gaussian_attention_v2_index_pos_10" in ids
    assert "princeton-nlp/electra_base_1" in ids
