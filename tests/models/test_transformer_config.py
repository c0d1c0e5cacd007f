"""A configuration that cannot be trained is refused when it is made, and says why."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from models.transformer import TransformerConfig, config_for


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": 0}, "embed_dim must be an integer of 1 or more, found 0"),
        ({"embed_dim": 7, "num_heads": 1}, "embed_dim must be even .* found 7"),
        ({"num_heads": 0}, "num_heads must be an integer of 1 or more, found 0"),
        ({"num_heads": 3}, "num_heads must be a divisor of embed_dim=128, found 3"),
        ({"num_heads": 256}, "num_heads must be a divisor of embed_dim=128, found 256"),
        ({"num_layers": 0}, "num_layers must be .* found 0"),
        ({"ffn_dim": 0}, "ffn_dim must be .* or None .* found 0"),
        ({"ffn_dim": 1.5}, "ffn_dim must be .* found 1.5"),
        ({"positional_encoding": "t5"}, "'rotary', 'alibi' or None, found 't5'"),
        ({"positional_encoding": ""}, "one of 'sinusoidal', .* or None, found ''"),
        (
            {"positional_encoding": "rotary", "embed_dim": 6, "num_heads": 2},
            "another one than 'rotary', .* where a head has 3",
        ),
        ({"corpus": "imdb"}, "corpus must be one of 'ag_news', .* found 'imdb'"),
        ({"precision": "float16"}, "one of 'float32', 'bfloat16', found 'float16'"),
        ({"encoder": ""}, "encoder must be a name, or None"),
        ({"encoder": 3}, "encoder must be a name, or None .* found 3"),
        ({"encoder": "e", "max_length": 2}, "max_length must be an integer of 3 or more, found 2"),
        ({"fine_tune": 1}, "fine_tune must be True or False, found 1"),
        ({"fine_tune": True}, r"False where there is no encoder \(give encoder=\.\.\.\)"),
        ({"encoder_learning_rate": -1}, "encoder_learning_rate must be a positive number"),
        ({"dropout": 1.0}, r"dropout must be a rate in \[0, 1\), found 1.0"),
        ({"dropout": -0.1}, r"dropout must be a rate in \[0, 1\), found -0.1"),
        ({"dropout": float("nan")}, "dropout must be .* found nan"),
        ({"train_embeddings": 1}, "train_embeddings must be True or False, found 1"),
        ({"grad_clip_norm": 0.0}, "grad_clip_norm must be a positive number, or None .* 0.0"),
        ({"grad_clip_norm": float("inf")}, "grad_clip_norm must be .* found inf"),
        ({"max_length": 0}, "max_length must be .* found 0"),
        ({"min_count": 0}, "min_count must be .* found 0"),
        ({"batch_size": True}, "batch_size must be .* found True"),
        ({"learning_rate": 0}, "learning_rate must be a positive number, found 0"),
        ({"learning_rate": "3e-3"}, "learning_rate must be a positive number, found '3e-3'"),
        ({"warmup_fraction": 1}, r"warmup_fraction must be in \[0, 1\), found 1"),
        ({"weight_decay": -1}, "weight_decay must be a number of 0 or more, found -1"),
    ],
)
def test_value_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=f"TransformerConfig: .*{message}"):
        TransformerConfig(**change)


def test_replacing_a_field_checks_again():
    with pytest.raises(ValueError, match="num_heads"):
        dataclasses.replace(TransformerConfig(), num_heads=5)


def test_default_has_every_removable_component():
    config = TransformerConfig()
    assert config.positional_encoding is not None
    assert config.num_heads > 1
    assert config.ffn_dim is not None
    assert config.dropout > 0
    assert config.train_embeddings


def test_a_corpus_has_defaults_of_its_own_and_changes_come_before_them():
    assert config_for("ag_news") == TransformerConfig()
    bbc = config_for("bbc_news")
    assert (bbc.corpus, bbc.embed_dim, bbc.num_layers) == ("bbc_news", 64, 1)
    assert config_for("bbc_news", num_layers=2) == dataclasses.replace(bbc, num_layers=2)


def test_the_feed_forward_layer_is_four_times_as_wide_unless_somebody_chose():
    assert config_for("ag_news", embed_dim=32).ffn_dim == 128
    assert config_for("bbc_news", embed_dim=32).ffn_dim == 128
    assert config_for("ag_news", embed_dim=32, ffn_dim=40).ffn_dim == 40
    assert config_for("ag_news", embed_dim=32, ffn_dim=None).ffn_dim is None


def test_idle_fields_are_those_that_the_values_of_others_make_useless():
    assert TransformerConfig().idle_fields == {"encoder_learning_rate"}
    frozen = TransformerConfig(encoder="e").idle_fields
    tuned = TransformerConfig(encoder="e", fine_tune=True).idle_fields
    assert {"embed_dim", "num_heads", "positional_encoding", "encoder_learning_rate"} <= frozen
    assert frozen - tuned == {"encoder_learning_rate"}
    assert not {"dropout", "learning_rate", "max_length", "batch_size", "corpus"} & frozen


def test_importing_the_training_function_does_not_import_torch():
    code = (
        "import sys, models.transformer, models.metrics, models.randomness\n"
        "models.transformer.TransformerConfig(); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
