"""The copy of AG News that the package ``datasets`` loads is the same corpus, or is refused."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models import ag_news
from models.ag_news import ag_news_hub_digest, load_ag_news, load_ag_news_hub
from models.errors import DataError
from models.transformer import config_for, data, data_digest

HEALTHY = [(label, f"title {label} {n}", "text") for label in (1, 2, 3, 4) for n in range(3)]
TESTED = [(label, f"tested {label}", "text") for label in (1, 2, 3, 4)]


def rows_of(split):
    return list(zip(split.texts, split.labels.tolist(), strict=True))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Write a folder that the package loads as it does a dataset of the hub; returns its name."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()

    def write(kind="jsonl", **splits):
        folder = tmp_path / "fancyzhx" / "ag_news"
        folder.mkdir(parents=True)
        for split, rows in splits.items():
            path = folder / f"{split}.{kind}"
            if kind == "parquet":
                datasets.Dataset.from_list(rows).to_parquet(path)
            else:
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(folder)

    yield write
    forget_the_hub()


def forget_the_hub():
    for function in (ag_news._hub_splits, load_ag_news_hub, ag_news_hub_digest,
                     data._numbered, data._encoded):  # fmt: skip
        function.cache_clear()


def hub_rows(rows):
    return [{"text": f"{title} {text}", "label": label - 1} for label, title, text in rows]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_hubs_copy_is_the_same_corpus(hub, small_ag_news, kind):
    folder = small_ag_news / "ag_news_csv"
    rows = {}
    for split in ("train", "test"):
        with (folder / f"{split}.csv").open(newline="") as file:
            rows[split] = hub_rows([(int(c), t, d) for c, t, d in csv.reader(file)])
    official, found = load_ag_news(small_ag_news), load_ag_news_hub(hub(kind, **rows))
    for split in ("train", "validation", "test"):
        ours = [(text.replace("\n", " "), y) for text, y in rows_of(getattr(official, split))]
        assert rows_of(getattr(found, split)) == ours
    assert found.classes == official.classes
    assert "by the package datasets" in found.description


def test_the_hubs_copy_is_what_the_configuration_names(hub, tmp_path, monkeypatch):
    hub(train=hub_rows(HEALTHY), test=hub_rows(TESTED))
    monkeypatch.chdir(tmp_path)  # the name on the hub is then that of a folder
    config = config_for("ag_news_hub")
    assert data.load_data(config, None).news.test.texts[0] == "tested 1 text"
    first = data_digest(config)
    assert first == ag_news_hub_digest()
    path = tmp_path / "fancyzhx" / "ag_news" / "test.jsonl"
    path.write_text(path.read_text().replace("tested", "TESTED"))
    forget_the_hub()
    assert data_digest(config) != first


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": hub_rows(HEALTHY)}, "found for test: no such split"),
        ({"train": [{"text": "a"}], "test": [{"text": "a"}]}, r"found for train: \['text'\]"),
        ({"train": [{"text": "a", "label": 4}], "test": hub_rows(TESTED)},
         "row 0 of the split 'train'.* from 0 to 3, found 'a' and 4"),
        ({"train": hub_rows(HEALTHY), "test": hub_rows(TESTED[:1])}, "one class only"),
    ],
)  # fmt: skip
def test_another_dataset_than_ag_news_is_refused(hub, splits, message):
    with pytest.raises(DataError, match=message):
        load_ag_news_hub(hub(**splits))


def test_a_dataset_that_is_not_there_is_told_in_one_error(hub, tmp_path):
    with pytest.raises(DataError, match=r"cannot load .*nowhere"):
        load_ag_news_hub(str(tmp_path / "nowhere" / "at" / "all"))


def test_without_the_package_datasets_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for function in (load_ag_news_hub, ag_news_hub_digest):
        with pytest.raises(DataError, match="pip install datasets"):
            function("not/cached")


def test_the_option_asks_for_the_hubs_copy_and_takes_nothing_else():
    program = (
        "import os, pytest\n"
        "for value in ('kaggle', 'hub'):\n"
        "    status = pytest.main(['-q', '--collect-only', '-p', 'no:cacheprovider',\n"
        "                          '--ablation-ag-news=' + value, 'tests/models/conftest.py'])\n"
        "    print('GOT', int(status), os.environ.get('ABLATION_AG_NEWS'))\n"
    )
    environment = {name: v for name, v in os.environ.items() if name != "ABLATION_AG_NEWS"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).resolve().parents[2], env=environment,
        text=True, capture_output=True,
    )  # fmt: skip
    got = [line.split()[1:] for line in result.stdout.splitlines() if line.startswith("GOT")]
    assert got == [["4", "None"], ["5", "hub"]]
    assert "invalid choice: 'kaggle'" in result.stderr
