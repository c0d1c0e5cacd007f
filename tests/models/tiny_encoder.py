"""A BERT of a few thousand random parameters, in files like those of a pretrained one."""

from __future__ import annotations

from pathlib import Path

WORDS = (
    "rain snow wind storm sun cloud river lake sea hill tree bird fish horse bread milk corn wheat "
    "ship train road bridge house school church market king queen doctor farmer sailor painter"
).split()


def write_tiny_bert(folder: Path, *, seed: int = 0, width: int = 16, positions: int = 64) -> Path:
    """Write configuration, tokenizer and safetensors weights; the same bytes for the same seed."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"abcdefghijklmnop"]
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=positions, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder
