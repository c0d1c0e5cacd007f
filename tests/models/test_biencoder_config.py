"""The configuration is checked when made and cheap to import; the data digest covers all files."""

import dataclasses
import subprocess
import sys

import pytest
from tiny_encoder import write_tiny_bert

from models.biencoder import BiEncoderConfig, data_digest

WRONG = {
    "encoder": ["", None],
    "max_length": [2, 24.0, True],
    "layernorm": [1, None],
    "relu": ["yes"],
    "embed_dim": [0, -1],
    "dropout": [1.0, -0.1],
    "triplet_margin": [0, float("nan")],
    "triplet_weight": [-1.0],
    "pair_weight": [-0.5, "1"],
    "hard_negative": [1.1, -0.1],
    "rerank_top": [1, 0, 2.5],
    "rerank_weight": [-1, float("inf")],
    "batch_size": [1, True],
    "learning_rate": [0.0],
    "weight_decay": [-0.01],
}


@pytest.mark.parametrize(
    ("field", "value"), [(f, v) for f, values in WRONG.items() for v in values]
)
def test_a_wrong_value_is_refused_with_the_field_and_what_was_found(field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*found {value!r}".replace("+", r"\+")):
        BiEncoderConfig(**{field: value})


def test_every_field_is_checked():
    assert set(WRONG) == {field.name for field in dataclasses.fields(BiEncoderConfig)}


def test_both_losses_cannot_be_off():
    with pytest.raises(ValueError, match="positive where pair_weight is 0"):
        BiEncoderConfig(triplet_weight=0, pair_weight=0)


def test_limits_are_allowed():
    BiEncoderConfig(dropout=0, hard_negative=1, rerank_top=None, pair_weight=0, weight_decay=0)
    BiEncoderConfig(hard_negative=0, rerank_top=2, triplet_weight=0, batch_size=2, max_length=3)


def test_importing_and_digesting_imports_neither_torch_nor_transformers():
    program = (
        "import sys\n"
        "from models.biencoder import BiEncoderConfig, data_digest, train_biencoder\n"
        "data_digest(BiEncoderConfig())\n"
        "sys.exit(bool({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_data_digest_covers_articles_and_encoder_files(small_bbc_news, tmp_path):
    folders = [write_tiny_bert(tmp_path / f"bert{seed}", seed=seed) for seed in (0, 0, 1)]
    first, same, other_weights = (BiEncoderConfig(encoder=str(folder)) for folder in folders)
    digest = data_digest(first, small_bbc_news)
    assert digest == data_digest(same, small_bbc_news) == data_digest(first, small_bbc_news)
    assert digest != data_digest(other_weights, small_bbc_news)
    assert digest != data_digest(first)
    with open(folders[0] / "tokenizer.json", "a") as tokenizer:
        tokenizer.write("\n")
    assert digest != data_digest(first, small_bbc_news)


def test_other_settings_do_not_change_the_data_digest():
    assert data_digest(BiEncoderConfig()) == data_digest(BiEncoderConfig(relu=True, max_length=9))
