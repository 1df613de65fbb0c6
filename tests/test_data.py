"""The data layer: three sources, their faults, and the folders made of them."""

import hashlib
import json
import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from muxplm import config, pinning
from muxplm import hub as pins
from muxplm.data import prepare, rows, sources, synthetic
from muxplm.files import DataError, sha256
from muxplm.model_config import prefix_token_ids
from muxplm.tasks import TASKS

ROOT = Path(__file__).parent.parent
COMMITS = {
    repo.name: "0" * 40 for repo in (*pins.TASKS.values(), *pins.CORPUS) if not repo.revision
}
DEFAULT = yaml.safe_load((ROOT / "config/config.yaml").read_text())
TRAIN, VALIDATION, DOCUMENTS = 24, 12, 60


def make_settings(tmp_path, **changes) -> config.Settings:
    """The default config with tiny sizes, results under tmp_path, and `changes` laid over it."""
    tiny = {
        "results": str(tmp_path / "results"),
        "data_folder": str(tmp_path / "data"),
        "max_length": 16,
        "data": {
            "validation_fraction": 0.3,
            "synthetic": {
                "documents": DOCUMENTS,
                "train_rows": dict.fromkeys(TASKS, TRAIN),
                "validation_rows": VALIDATION,
            },
        },
        "tokenizer": {"vocab_size": 400, "trim": False},
    }
    return config.validate(config.merge(config.merge(DEFAULT, tiny), changes))


def rows_of(task: str) -> dict[str, dict[str, list]]:
    return synthetic.task(task, TRAIN, VALIDATION, seed=1)


def texts() -> list[str]:
    return list(synthetic.corpus(DOCUMENTS, seed=1))


def write(file: Path, columns: dict):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


@pytest.fixture
def local(tmp_path):
    """Settings for a folder of one task (SST-2) and a corpus, in the layout of the real one."""
    for split, columns in rows_of("sst2").items():
        write(tmp_path / f"data/glue/sst2/{split}.parquet", columns)
    half = len(texts()) // 2
    write(tmp_path / "data/corpus/a.parquet", {"text": texts()[:half]})
    write(tmp_path / "data/corpus/b.parquet", {"text": [*texts()[half:], "", None, "  "]})
    write(tmp_path / "data/corpus/wikitext103_test.parquet", {"text": ["not for pre-training"]})
    return make_settings(tmp_path, data={"source": "local"})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Settings for a Hub that holds the synthetic rows; `hub.calls` lists what was asked for."""

    def load_dataset(name, subset=None, *, revision, split=None, streaming=False):
        calls.append((name, subset, revision, streaming))
        if split:
            return [{"text": text} for text in texts()]
        repo = pins.Repo(name, revision, subset)
        named = [t for t, r in pins.TASKS.items() if str(pins.pinned(r, COMMITS)) == str(repo)]
        return {s: as_on_hub(named[0], columns) for s, columns in rows_of(named[0]).items()}

    calls = []
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    settings = make_settings(tmp_path, data={"source": "hub", "revisions": COMMITS})
    object.__setattr__(settings, "calls", calls)
    return settings


def as_on_hub(task: str, columns: dict) -> datasets.Dataset:
    """With class names, as the Hub's data sets have them."""
    data = datasets.Dataset.from_dict(columns)
    if not TASKS[task].labels:
        return data
    names = datasets.ClassLabel(names=list(TASKS[task].labels))
    tagging = TASKS[task].kind == "tagging"
    label = TASKS[task].label
    if task == "pos":
        codes = [[names.str2int(tag) for tag in tags] for tags in columns[label]]
        data = datasets.Dataset.from_dict(columns | {label: codes})
    return data.cast_column(label, datasets.List(names) if tagging else names)


def load_both(name: str, settings) -> dict:
    """All parts of both splits."""
    return {
        part: data
        for split in pins.SPLITS
        for part, data in sources.load_task(name, split, settings).items()
    }


def prepare_both(name: str, settings):
    for split in pins.SPLITS:
        rows.prepare_task(name, split, settings)


def fault(call, *arguments) -> str:
    """The message of the DataError that the call raises: one line."""
    with pytest.raises(DataError) as caught:
        result = call(*arguments)
        list(result)  # a generator fails on first use
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left_behind(settings) -> list[str]:
    return sorted(str(file) for file in Path(settings.results).rglob("*") if file.is_file())


# --- Sources -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_the_three_sources_agree(name, tmp_path, hub):
    for split, columns in rows_of(name).items():
        file = pins.local_file(name, split.removesuffix("_matched"))
        write(tmp_path / "data" / file, columns)
    found = {
        source: load_both(
            name, make_settings(tmp_path, data={"source": source, "revisions": COMMITS})
        )
        for source in ("hub", "local", "synthetic")
    }
    mismatched = ["validation_mismatched"] if name == "mnli" else []
    for splits in found.values():
        assert list(splits) == ["train", "validation", *mismatched]
        assert {split: len(data) for split, data in splits.items()} == {
            "train": TRAIN,
            **dict.fromkeys(["validation", *mismatched], VALIDATION),
        }
    task = TASKS[name]
    for split, data in found["synthetic"].items():
        assert data.column_names == [*task.columns, task.label]
        for other in ("hub", "local"):
            assert found[other][split].to_pydict() == data.to_pydict()
            assert found[other][split].schema == data.schema


def test_upos_names_become_the_hubs_codes(tmp_path):
    data = load_both("pos", make_settings(tmp_path))["train"]
    names = [[TASKS["pos"].labels[code] for code in codes] for codes in data["upos"]]
    assert names == rows_of("pos")["train"]["upos"]


def test_limits_keep_the_same_random_rows(tmp_path):
    limits = {"max_train_rows": 10, "max_validation_rows": 5}
    few = load_both("rte", make_settings(tmp_path, data=limits))
    again = load_both("rte", make_settings(tmp_path, data=limits))
    everything = load_both("rte", make_settings(tmp_path))
    for split, limit in (("train", 10), ("validation", 5)):
        assert len(few[split]) == limit
        assert few[split].equals(again[split])
        kept, all_rows = (of[split]["sentence1"].to_pylist() for of in (few, everything))
        assert set(kept) <= set(all_rows)
        assert kept != all_rows[:limit]


def test_the_hub_is_asked_for_pinned_revisions(hub):
    for name in TASKS:
        load_both(name, hub)
    list(sources.documents(hub, "train"))
    list(sources.documents(hub, "muxology"))
    assert len(set(hub.calls)) == len(TASKS) + 3
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for _, _, revision, _ in hub.calls)
    given = {name for name, _, revision, _ in hub.calls if revision == "0" * 40}
    assert given == set(COMMITS)


def test_pins_are_what_the_hub_says_today(tmp_path, monkeypatch):
    """Those that no module knows: what `muxplm pin` prints makes the config complete."""
    asked = []

    class Api:
        def dataset_info(self, name, revision):
            asked.append((name, revision))
            return SimpleNamespace(sha=hashlib.sha1(name.encode()).hexdigest())

        model_info = dataset_info

    monkeypatch.setattr(pinning, "HfApi", Api)
    on_hub = {"source": "hub"}
    with pytest.raises(config.ConfigError, match=r"data\.revisions lacks a commit of"):
        config.check_pins(make_settings(tmp_path, data=on_hub))
    found = yaml.safe_load(pinning.pins(make_settings(tmp_path, data=on_hub)))
    assert ("eriktks/conll2003", "refs/convert/parquet") in asked
    config.check_pins(make_settings(tmp_path, **config.merge({"data": on_hub}, found)))
    theirs = {"data": on_hub, "released": {}}
    found = yaml.safe_load(pinning.pins(make_settings(tmp_path, **theirs)))
    config.check_pins(make_settings(tmp_path, **config.merge(theirs, found)))
    assert "princeton-nlp/muxbert_base_sst2_gaussian_hadamard_index_pos_2" in str(found)


def test_known_bad_rows_on_the_hub_are_skipped(hub, monkeypatch):
    bad = as_on_hub(
        "qqp",
        {"question1": ["a", "b"], "question2": ["c", ""], "label": [0, 1], "idx": [7, 310137]},
    )
    found = {"train": bad, "validation": bad}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: found)
    assert load_both("qqp", hub)["train"]["question1"].to_pylist() == ["a"]


def test_the_hub_out_of_reach(hub, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    message = fault(load_both, "sst2", hub)
    assert "nyu-mll/glue/sst2@bcdcba" in message
    assert "(no route to host)" in message
    assert "data.source" in message


def test_sentences_on_the_hub_are_joined_to_documents(hub, monkeypatch):
    monkeypatch.setattr(pins, "CORPUS", (pins.Repo("books", "0" * 40, rows_per_document=25),))
    found = list(sources.documents(hub, "train")) + list(sources.documents(hub, "validation"))
    assert sorted(found) == sorted("\n".join(texts()[i : i + 25]) for i in (0, 25, 50))


def test_the_hubs_text_is_streamed_only_for_a_few_documents(hub):
    list(sources.documents(hub, "train"))
    few = config.merge(hub.model_dump(), {"data": {"max_documents": 3}})
    assert len(list(sources.documents(config.validate(few), "train"))) <= 3
    assert [streaming for *_, streaming in hub.calls] == [False, False, True, True]


def test_documents_are_split_by_their_text(local):
    train = list(sources.documents(local, "train"))
    validation = list(sources.documents(local, "validation"))
    assert sorted(train + validation) == sorted(texts())
    assert not set(train) & set(validation)
    assert 0.1 < len(validation) / len(texts()) < 0.5
    assert train == list(sources.documents(local, "train"))


def test_muxology_reads_wikitext_where_it_is(local, hub, tmp_path):
    """Else the corpus's validation documents; a cap on documents leaves WikiText whole."""
    for settings in (local, make_settings(tmp_path)):
        place, documents = sources.muxology_text(settings)
        assert place == "the corpus's validation documents"
        assert list(documents) == list(sources.documents(settings, "validation"))

    file = tmp_path / "data/corpus/wikitext103_validation.parquet"
    write(file, {"text": ["for the analysis alone", " ", None, "so is this"]})
    few = config.validate(config.merge(local.model_dump(), {"data": {"max_documents": 1}}))
    assert sources.muxology_text(few)[0] == str(file)
    assert list(sources.documents(few, "muxology")) == ["for the analysis alone", "so is this"]
    for split in ("train", "validation"):
        assert "for the analysis alone" not in list(sources.documents(local, split))

    assert list(sources.documents(hub, "muxology")) == texts()
    name, subset, revision, _ = hub.calls[-1]
    place = f"{name}/{subset}@{revision} validation"
    assert place == sources.muxology_text(hub)[0]
    assert place.startswith("Salesforce/wikitext/wikitext-103-raw-v1@b08601e")


def test_a_cap_on_documents_takes_from_every_file(local):
    few = config.validate(config.merge(local.model_dump(), {"data": {"max_documents": 10}}))
    found = [*sources.documents(few, "train"), *sources.documents(few, "validation")]
    half = len(texts()) // 2
    assert sorted(found) == sorted(texts()[:5] + texts()[half : half + 5])


# --- Bad input ---------------------------------------------------------------------------------


def test_a_missing_folder(local, tmp_path):
    gone = make_settings(tmp_path, data={"source": "local"}, data_folder=str(tmp_path / "gone"))
    for message in (
        fault(prepare_both, "sst2", gone),
        fault(sources.documents, gone, "train"),
    ):
        assert str(tmp_path / "gone") in message
        assert "--config data_folder=DIR" in message
    assert left_behind(gone) == []


def test_a_missing_file(local, tmp_path):
    message = fault(prepare_both, "qqp", local)
    assert f"{tmp_path}/data/glue/qqp/train.parquet is missing: put it there" in message
    assert left_behind(local) == []


def test_a_broken_file(local, tmp_path):
    for file, call in (
        (tmp_path / "data/glue/sst2/train.parquet", lambda: prepare_both("sst2", local)),
        (tmp_path / "data/corpus/a.parquet", lambda: prepare.prepare_tokenizer(local)),
    ):
        file.write_bytes(file.read_bytes()[:-20])
        message = fault(call)
        assert f"{file} is not a readable Parquet file" in message
        assert "fetch it again" in message
    assert left_behind(local) == []


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("sst2", {"sentence": None}, "column 'sentence' is missing: rename one of label, idx"),
        ("sst2", {"sentence": [1, 2]}, "column 'sentence' holds integer: write it as text"),
        ("sst2", {"label": ["0", "1"]}, "column 'label' holds text: write it as integer"),
        ("sst2", {"label": [0, -1]}, "row 1, column 'label' is -1, GLUE's mark of a hidden test"),
        ("sst2", {"label": [2, 0]}, "row 0, column 'label' holds 2, not a class in 0..1: correct"),
        ("sst2", {"label": [0, None]}, "row 1, column 'label' holds None, not a class in 0..1"),
        ("sst2", {"sentence": ["a", " "]}, "row 1, column 'sentence' is empty: fill it in or drop"),
        (
            "sst2",
            {"sentence": ["a", None]},
            "row 1, column 'sentence' is empty: fill it in or drop",
        ),
        ("stsb", {"label": [5.0, 5.1]}, "row 1, column 'label' is 5.1"),
        (
            "stsb",
            {"label": [float("nan"), 1]},
            "row 0, column 'label' is nan, not in 0..5: correct",
        ),
        ("ner", {"tokens": ["a b", "c"]}, "column 'tokens' holds text: write it as list of text"),
        ("ner", {"tokens": [["a"], []]}, "row 1, column 'tokens' is empty: fill it in or drop"),
        ("ner", {"tokens": [["a"], ["b", ""]]}, "row 1, column 'tokens' is empty: fill it in"),
        ("ner", {"ner_tags": [[0], [0]]}, "row 1, column 'ner_tags' has 1 tags for 2 tokens: tag"),
        ("ner", {"ner_tags": [[0], None]}, "row 1, column 'ner_tags' has 0 tags for 2 tokens: tag"),
        (
            "ner",
            {"ner_tags": [[0], [0, 9]]},
            "row 1, column 'ner_tags' holds 9, not a class in 0..8",
        ),
        ("pos", {"upos": [["X"], None]}, "row 1, column 'upos' has 0 tags for 2 tokens: tag every"),
        ("pos", {"upos": [["X"], ["X", "FOO"]]}, "row 1, column 'upos' holds 'FOO', not a class"),
    ],
)
def test_bad_columns_and_rows(name, change, expected, tmp_path):
    good = {
        "sst2": {"sentence": ["a", "b"], "label": [0, 1], "idx": [0, 1]},
        "stsb": {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0.0, 5.0]},
        "ner": {"tokens": [["a"], ["b", "c"]], "ner_tags": [[0], [0, 8]]},
        "pos": {"tokens": [["a"], ["b", "c"]], "upos": [["X"], ["X", "AUX"]]},
    }[name]
    settings = make_settings(tmp_path, data={"source": "local"})
    folder = (tmp_path / "data" / pins.local_file(name, "train")).parent
    write(folder / "train.parquet", good)
    write(folder / "validation.parquet", good)
    prepare_both(name, settings)
    before = {file: sha256(file) for file in left_behind(settings)}

    changed = {column: values for column, values in (good | change).items() if values is not None}
    write(folder / "validation.parquet", changed)
    message = fault(prepare_both, name, settings)
    assert f"{folder}/validation.parquet: {expected}" in message
    assert {file: sha256(file) for file in left_behind(settings)} == before


def test_class_names_in_another_order(tmp_path, monkeypatch, hub):
    data = datasets.Dataset.from_dict(rows_of("rte")["train"])
    data = data.cast_column("label", datasets.ClassLabel(names=["not_entailment", "entailment"]))
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: {"train": data, "validation": data}
    )
    message = fault(load_both, "rte", hub)
    assert "column 'label' numbers its classes as not_entailment, entailment" in message
    assert "renumber them as entailment, not_entailment" in message


def test_class_names_as_older_releases_noted_them():
    """In a list where a feature is one of lists."""
    tags = {"ner_tags": [{"names": ["O", "B-PER"], "_type": "ClassLabel"}]}
    noted = {"huggingface": json.dumps({"info": {"features": tags}})}
    data = pa.table({"ner_tags": [[0, 1]]}).replace_schema_metadata(noted)
    assert sources._class_names(data, "ner_tags") == ["O", "B-PER"]


def test_a_file_without_rows(local, tmp_path):
    empty = pa.table(rows_of("sst2")["train"]).slice(0, 0)
    pq.write_table(empty, tmp_path / "data/glue/sst2/train.parquet")
    assert "train.parquet has no rows: add some" in fault(load_both, "sst2", local)


def test_a_corpus_without_text(local, tmp_path):
    for file in (tmp_path / "data/corpus").glob("?.parquet"):
        write(file, {"text": ["", " "]})
    assert "holds no document: put text into" in fault(prepare.prepare_tokenizer, local)
    write(tmp_path / "data/corpus/a.parquet", {"body": ["a"]})
    assert "a.parquet has no column 'text'" in fault(prepare.prepare_tokenizer, local)
    for file in (tmp_path / "data/corpus").glob("?.parquet"):
        file.unlink()
    assert "has no Parquet file of text: put one there" in fault(prepare.prepare_tokenizer, local)
    assert left_behind(local) == []


def test_more_synthetic_rows_than_there_are(tmp_path, monkeypatch):
    def refuse(name, *_):
        raise ValueError(f"{name}: the grammar has too few sentences for 9 train rows")

    monkeypatch.setattr(synthetic, "task", refuse)
    message = fault(load_both, "rte", make_settings(tmp_path))
    assert "rte: the grammar has too few" in message
    assert "lower data.synthetic.train_rows.rte" in message


# --- Prepared tasks ----------------------------------------------------------------------------


def test_a_prepared_task_reads_back(tmp_path):
    settings = make_settings(tmp_path)
    prepare_both("mnli", settings)
    written = {file: sha256(file) for file in left_behind(settings)}
    wanted = load_both("mnli", settings)
    for part, data in wanted.items():
        assert rows.read_task("mnli", part, settings) == data.to_pydict()

    assert rows.task_parts("mnli", "train", settings) == {"train": len(wanted["train"])}
    manifest = json.loads(Path(settings.paths.task_data("mnli", "validation")).read_text())
    assert list(manifest["rows"]) == ["validation", "validation_mismatched"]
    assert manifest["source"] == "synthetic"
    assert manifest["rows"]["validation_mismatched"] == VALIDATION
    assert set(manifest["sha256"].values()) < set(written.values())

    prepare_both("mnli", settings)
    assert {file: sha256(file) for file in left_behind(settings)} == written


def test_an_unprepared_task(tmp_path):
    settings = make_settings(tmp_path)
    read = (rows.read_task, "rte", "train", settings)
    assert fault(*read).endswith("train.json is missing: run the step that makes it first")
    prepare_both("rte", settings)
    Path(settings.paths.task_data("rte", "train")).with_name("train.parquet").unlink()
    assert "train.parquet is missing: run the step" in fault(*read)


# --- Tokenizer ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Settings whose tokenizer and blocks are made."""
    settings = make_settings(tmp_path_factory.mktemp("prepared"))
    prepare.prepare_tokenizer(settings)
    prepare.prepare_blocks(settings)
    return settings


def test_the_tokenizer(prepared):
    tokenizer = prepare.read_tokenizer(prepared)
    assert tokenizer.convert_ids_to_tokens(range(5)) == prepare.SPECIAL
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 4)
    assert len(tokenizer) == prepared.tokenizer.vocab_size

    pair = tokenizer("THE", "the")
    assert list(pair) == ["input_ids", "attention_mask"]
    first, one, middle, other, last = pair["input_ids"]
    assert (first, middle, last) == (2, 3, 3)
    assert one == other
    seen = [text.split() for text in sources.documents(prepared, "train")]
    words = tokenizer(seen, is_split_into_words=True)
    assert tokenizer.unk_token_id not in chain.from_iterable(words["input_ids"])
    assert words.word_ids(0)[:2] == [None, 0]


def test_the_same_text_gives_the_same_tokenizer(prepared, tmp_path):
    again = make_settings(tmp_path)
    prepare.prepare_tokenizer(again)
    assert sha256(again.paths.tokenizer) == sha256(prepared.paths.tokenizer)


def test_a_trimmed_vocabulary_splits_its_texts_as_before(prepared, tmp_path):
    settings = make_settings(tmp_path, tokenizer={"trim": True})
    prepare.prepare_tokenizer(settings)
    trimmed, whole = prepare.read_tokenizer(settings), prepare.read_tokenizer(prepared)
    texts = [*sources.documents(settings, "train")]
    pieces = [trimmed.tokenize(text) for text in texts]
    assert pieces == [whole.tokenize(text) for text in texts]

    kept, used = set(trimmed.get_vocab()), set(chain.from_iterable(pieces))
    assert used < kept < set(whole.get_vocab())
    assert not [t for t in kept - used if len(t.removeprefix("##")) > 1 and t[0] != "["]
    assert sorted(trimmed.get_vocab().values()) == [*range(len(trimmed))]
    assert trimmed.tokenize("ynu") == ["y", "##n", "##u"]  # a word that no text has, by its letters


def test_prefix_tokens(prepared):
    tokenizer = prepare.read_tokenizer(prepared)
    ids = prefix_token_ids(tokenizer, 10)
    assert tokenizer.convert_ids_to_tokens(ids) == [f"[unused{i}]" for i in range(11)]
    message = fault(prefix_token_ids, tokenizer, 16)
    assert "N = 16 needs 17 unused ids but the tokenizer has 16" in message
    assert "set tokenizer.unused to 17 or more" in message


def test_a_pretrained_tokenizer(prepared, tmp_path):
    folder = str(Path(prepared.paths.tokenizer).parent)
    settings = make_settings(tmp_path, tokenizer={"pretrained": folder})
    prepare.prepare_tokenizer(settings)
    tokenizer = prepare.read_tokenizer(settings)
    assert tokenizer.get_vocab() == prepare.read_tokenizer(prepared).get_vocab()
    assert tokenizer.model_input_names == prepare.MODEL_INPUTS

    with pytest.raises(config.ConfigError, match=r"set tokenizer\.revision to a commit"):
        make_settings(tmp_path, tokenizer={"pretrained": f"{folder}/gone"})
    gone = {"pretrained": str(tmp_path / "gone"), "revision": "0" * 40}
    message = fault(prepare.prepare_tokenizer, make_settings(tmp_path, tokenizer=gone))
    assert f"tokenizer.pretrained {tmp_path}/gone at {'0' * 40} cannot be loaded" in message


# --- Blocks ------------------------------------------------------------------------------------


def borrow_tokenizer(lender, settings):
    folder = Path(settings.paths.tokenizer).parent
    folder.parent.mkdir(parents=True)
    folder.symlink_to(Path(lender.paths.tokenizer).parent)


@pytest.mark.parametrize("length", [3, 16, 61])
def test_blocks_hold_the_corpus(prepared, length, tmp_path):
    settings = make_settings(tmp_path, max_length=length)
    borrow_tokenizer(prepared, settings)
    prepare.prepare_blocks(settings)
    tokenizer = prepare.read_tokenizer(settings)
    manifest = json.loads(Path(settings.paths.blocks).read_text())
    for split in ("train", "validation", "muxology"):
        blocks = prepare.read_blocks(settings, split)
        assert isinstance(blocks, np.memmap)
        assert blocks.dtype == np.uint16
        assert blocks.shape == (manifest["blocks"][split], length)
        assert set(blocks[:, 0]) == {tokenizer.cls_token_id}
        assert set(blocks[:, -1]) == {tokenizer.sep_token_id}

        corpus = []
        for text in sources.documents(settings, split):
            for line in text.split("\n"):
                corpus += tokenizer(line, add_special_tokens=False)["input_ids"]
                corpus.append(tokenizer.sep_token_id)
        body = blocks[:, 1:-1].ravel().tolist()
        assert body == corpus[: len(body)]
        assert len(corpus) - len(body) < length - 2
        assert manifest["tokens"][split] == len(body)


def test_the_blocks_manifest(prepared):
    manifest = json.loads(Path(prepared.paths.blocks).read_text())
    assert manifest["tokenizer_sha256"] == sha256(prepared.paths.tokenizer)
    assert manifest["muxology"] == sources.muxology_text(prepared)[0]
    assert list(manifest["sha256"]) == ["train", "validation", "muxology"]
    for split, digest in manifest["sha256"].items():
        assert digest == sha256(Path(prepared.paths.blocks).with_name(f"{split}.bin"))


def test_a_failure_leaves_the_blocks_as_they_were(prepared, monkeypatch):
    before = {file: sha256(file) for file in left_behind(prepared)}

    def documents(settings, split):
        yield from texts()
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "documents", documents)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare_blocks(prepared)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare_tokenizer(prepared)
    assert {file: sha256(file) for file in left_behind(prepared)} == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"max_length": 2**14}, "the train text fills no block of max_length 16384"),
        ({"max_length": 2**14}, "raise data.synthetic.documents or lower max_length"),
        ({"data": {"validation_fraction": 1e-9}}, "the validation text fills no block"),
        ({"data": {"validation_fraction": 1e-9}}, "raise data.validation_fraction or lower"),
    ],
)
def test_too_little_text_for_a_block(change, expected, prepared, tmp_path):
    settings = make_settings(tmp_path, **change)
    borrow_tokenizer(prepared, settings)
    assert expected in fault(prepare.prepare_blocks, settings)
    assert left_behind(settings) == []


def test_too_little_text_for_muxology(prepared, local, tmp_path):
    file = tmp_path / "data/corpus/wikitext103_validation.parquet"
    write(file, {"text": ["no block"]})
    borrow_tokenizer(prepared, local)
    message = fault(prepare.prepare_blocks, local)
    assert "the muxology text fills no block of max_length 16" in message
    assert f"put more text into {file} or lower max_length" in message
    assert left_behind(local) == []


def test_blocks_without_a_tokenizer(tmp_path):
    settings = make_settings(tmp_path)
    assert "tokenizer.json is missing: run" in fault(prepare.prepare_blocks, settings)


def test_broken_blocks(tmp_path):
    settings = make_settings(tmp_path)
    assert "is missing: run the step" in fault(prepare.read_blocks, settings, "train")
    manifest = {"dtype": "uint16", "block_length": 16, "blocks": {"train": 4}}
    manifest |= {"sha256": {"train": 64 * "0"}}
    folder = Path(settings.paths.blocks).parent
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "train.bin").write_bytes(b"1234")
    message = fault(prepare.read_blocks, settings, "train")
    assert "train.bin is broken" in message
    assert "delete its folder and run again" in message
    assert "manifest.json is not what" in fault(prepare.read_blocks, settings, "muxology")
    # Its checksum is right, and there is too little in it.
    checksum = sha256(folder / "train.bin")
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": {"train": checksum}}))
    assert "train.bin is broken" in fault(prepare.read_blocks, settings, "train")


# --- The presets for real data -----------------------------------------------------------------


def test_the_presets(tmp_path):
    (tmp_path / "folder.yaml").write_text("data_folder: somewhere")
    local = config.load([ROOT / "config/local.yaml", tmp_path / "folder.yaml"])
    assert (local.data.source, local.data_folder) == ("local", "somewhere")
    paper = config.load([ROOT / "config/paper.yaml"])
    assert paper.data.source == "hub"
    assert re.fullmatch("[0-9a-f]{40}", paper.tokenizer.revision)
