"""A BERT of a few thousand random parameters, in files like those of a pretrained one."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = (
    "rain snow wind storm sun cloud river lake sea hill tree bird fish horse bread milk corn wheat "
    "ship train road bridge house school church market king queen doctor farmer sailor painter"
).split()


def write_tiny_bert(
    folder: Path,
    *,
    seed: int = 0,
    width: int = 16,
    positions: int = 64,
    offset: float = 0.0,
    marks: bool = True,
) -> Path:
    """Write configuration, tokenizer and safetensors weights; the same bytes for the same seed.

    *offset* is added to all numbers of all word vectors. The LayerNorm behind them takes it away
    again, but at 1000 bfloat16 has no bits left for what tells the words apart. Without *marks* the
    tokenizer adds no [CLS] and [SEP].
    """
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"abcdefghijklmnop"]
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=positions, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight += offset
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    if not marks:
        _leave_marks_out(folder)
    return folder


def _leave_marks_out(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # BERT's own adds the marks again
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
