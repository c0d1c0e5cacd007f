"""The configuration is checked when made and cheap to import; the data digest covers all files."""

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.arguana import arguana_digest
from models.bbc_news import bbc_news_digest
from models.biencoder import BiEncoderConfig, config_for, corpus_in, data_digest, metric_names
from models.errors import DataError
from models.pretrained.encoder import EncoderError

NAN, INFINITY = float("nan"), float("inf")
WRONG = {
    "corpus": ["ag_news", "ArguAna", None, ["arguana"]],
    "encoder": ["", None],
    "encoder_precision": ["int8", None],
    "max_length": [2, 24.0, True],
    "known_pairs": [0],
    "train_encoder": ["no"],
    "shared": [None],
    "layernorm": [1, None],
    "relu": ["yes"],
    "embed_dim": [0, -1, 12.0],
    "dropout": [1.0, -0.1],
    "fusion": ["concat", None],
    "triplet_margin": [0, NAN],
    "triplet_weight": [-1.0],
    "contrastive_weight": [-1.0, INFINITY],
    "contrastive_scale": [0, "20"],
    "pair_weight": [-0.5, "1"],
    "negatives": [0, 1.5],
    "random_negatives": [1.1, -0.1, None],
    "random_decay": [-0.1, NAN],
    "hard_pool": [0, True],
    "exact_search": ["BallTree"],
    "rerank_top": [1, 0, 2.5],
    "rerank_weight": [-1, INFINITY],
    "batch_size": [1, True],
    "learning_rate": [0.0],
    "encoder_learning_rate": [0, -1e-5],
    "weight_decay": [-0.01],
    "grad_clip_norm": [0, -1.0, NAN, True],
}


@pytest.mark.parametrize(
    ("field", "value"), [(f, v) for f, values in WRONG.items() for v in values]
)
def test_a_wrong_value_is_refused_with_the_field_and_what_was_found(field, value):
    message = f"{field} must be .*found {re.escape(repr(value))}"
    with pytest.raises(ValueError, match=message):
        BiEncoderConfig(**{field: value})


def test_every_field_is_checked():
    assert set(WRONG) == {field.name for field in dataclasses.fields(BiEncoderConfig)}


def test_all_losses_cannot_be_off():
    off = {"triplet_weight": 0, "contrastive_weight": 0, "pair_weight": 0}
    with pytest.raises(ValueError, match="positive where contrastive_weight and pair_weight are 0"):
        BiEncoderConfig(**off)
    for one in off:
        BiEncoderConfig(**off | {one: 0.1})


def test_limits_are_allowed():
    BiEncoderConfig(dropout=0, random_negatives=1, random_decay=0, rerank_top=None, pair_weight=0)
    BiEncoderConfig(random_negatives=0, rerank_top=2, batch_size=2, max_length=3, hard_pool=1)
    BiEncoderConfig(embed_dim=1, negatives=1, rerank_weight=0, weight_decay=0, grad_clip_norm=None)


def test_each_corpus_has_its_settings_and_changes_win():
    arguana, news = config_for("arguana"), config_for("bbc_news")
    assert arguana == BiEncoderConfig()
    assert (arguana.corpus, news.corpus) == ("arguana", "bbc_news")
    assert news != BiEncoderConfig(corpus="bbc_news")
    changed = config_for("bbc_news", relu=True, max_length=9)
    assert changed == dataclasses.replace(news, relu=True, max_length=9)
    with pytest.raises(ValueError, match="corpus must be one of 'bbc_news', 'arguana', found 'x'"):
        config_for("x")


def test_the_corpus_is_the_one_that_the_data_folder_holds(small_arguana, tmp_path_factory):
    assert corpus_in(None) == corpus_in(tmp_path_factory.mktemp("empty")) == "bbc_news"
    assert corpus_in(small_arguana) == corpus_in(str(small_arguana)) == "arguana"


def test_metrics_are_named_by_task_and_figure_the_overall_one_first():
    names = metric_names("arguana")
    assert names[0] == "epa_top1"
    assert len(names) == len(set(names)) == 8 * 4 * 2 + 2 * 4
    for figure in ("top1", "top5", "top10", "mrr"):
        for task in ("sdoc", "sdoa", "sdc", "sda", "stc", "sta", "epc", "epa"):
            assert {f"{task}_{figure}", f"reranked_{task}_{figure}"} <= set(names)
        assert {f"unseen_epa_{figure}", f"unseen_reranked_epa_{figure}"} <= set(names)
    plain = ["top1", "top5", "top10", "mrr"]
    assert metric_names("bbc_news") == [*plain, *(f"reranked_{name}" for name in plain)]


def test_importing_and_digesting_imports_neither_torch_nor_transformers():
    program = (
        "import sys\n"
        "from models.biencoder import config_for, data_digest, metric_names, train_biencoder\n"
        "data_digest(config_for('bbc_news')), metric_names('arguana')\n"
        "sys.exit(bool({'torch', 'transformers', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root).returncode == 0


# --- the data digest --------------------------------------------------------------------------


@pytest.fixture
def encoder(tmp_path):
    """A folder with an encoder's files; a digest never reads the weights as weights."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("corpus", ["bbc_news", "arguana"])
def test_the_data_digest_covers_texts_and_encoder_files(
    corpus, small_bbc_news, small_arguana, encoder
):
    assert small_bbc_news == small_arguana  # one folder holds both
    config = BiEncoderConfig(corpus=corpus, encoder=str(encoder))

    def digest():
        bbc_news_digest.cache_clear()
        arguana_digest.cache_clear()
        return data_digest(config, small_arguana)

    digests = [digest()]
    assert digest() == digests[0]
    for path in (
        next((small_arguana / "bbc_news").rglob("*.txt")),
        next((small_arguana / "arguana-counterargs-corpus").rglob("*a-point.txt")),
        *sorted(encoder.iterdir()),
    ):
        path.write_text(path.read_text() + "more\n")
        digests.append(digest())
    assert len(digests) == 6
    assert len(set(digests)) == 5, "the other corpus's texts are not read"


def test_the_data_digest_tells_encoders_and_precisions_apart(small_arguana, encoder, tmp_path):
    other = shutil.copytree(encoder, tmp_path / "other")
    (other / "config.json").write_text("another one")
    digests = {
        data_digest(BiEncoderConfig(encoder=str(folder), encoder_precision=p), small_arguana)
        for folder in (encoder, other)
        for p in ("float32", "bfloat16")
    }
    assert len(digests) == 4


def test_other_settings_do_not_change_the_data_digest(small_arguana, encoder):
    one, other = (
        BiEncoderConfig(encoder=str(encoder), **changes)
        for changes in ({}, {"relu": True, "max_length": 9, "train_encoder": True})
    )
    assert data_digest(one, small_arguana) == data_digest(other, small_arguana)


def test_without_the_corpus_or_the_encoder_there_is_no_digest(small_arguana, tmp_path):
    with pytest.raises(DataError, match=r"not part of this project: .* --ablation-data"):
        data_digest(BiEncoderConfig())
    with pytest.raises(DataError, match="no ArguAna corpus in"):
        data_digest(BiEncoderConfig(), tmp_path / "elsewhere")
    with pytest.raises(EncoderError, match="was not found"):
        data_digest(BiEncoderConfig(encoder="no-such-encoder"), small_arguana)
