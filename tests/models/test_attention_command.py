"""``python -m models.transformer.attention``, and reading a kept classifier back."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.checkpoints import CheckpointError
from models.transformer import TransformerConfig, train_classifier
from models.transformer.attention import main
from models.transformer.attention_maps import attention_maps
from models.transformer.checkpoint import load_classifier
from models.transformer.data import load_data, number_words, words_of
from pytest_ablation.digests import digest
from pytest_ablation.mode import Mode
from pytest_ablation.record_files import files_of
from pytest_ablation.run import Run
from pytest_ablation.store import Store

ROOT = Path(__file__).resolve().parents[2]
TINY = TransformerConfig(
    corpus="ag_news", embed_dim=8, num_heads=2, num_layers=3, ffn_dim=8, batch_size=16,
    max_length=10, learning_rate=0.01,
)  # fmt: skip
TEXT = "topic1word1 noise1 zebra, topic1word2!"


@dataclasses.dataclass(frozen=True)
class Kept:
    """A trained run as the store keeps it, and what it told."""

    folder: Path
    run: Run
    data_dir: Path

    @property
    def file(self):
        return self.folder / "model.safetensors"


@pytest.fixture(scope="module")
def kept(tmp_path_factory, small_ag_news):
    run = Run(
        seed=0, mode=Mode(seeds=1, epochs=2), device="cpu", data_dir=small_ag_news,
        keep_weights=True,
    )  # fmt: skip
    metrics = train_classifier(TINY, run)
    record = run.finish(metrics, key="k", config=dataclasses.asdict(TINY))
    store = Store(tmp_path_factory.mktemp("store"))
    store.prepare()
    files = files_of(
        record, run.predictions, run.weights, "models.transformer:train_classifier",
        about=run.about, heat_maps=run.told_heat_maps,
    )  # fmt: skip
    store.put(record.key, files)
    return Kept(store.runs / "k", run, small_ag_news)


@pytest.fixture
def look(kept, tmp_path, capsys):
    """Call the command; returns the lines that it printed, where it succeeded."""

    def look(*options, text=TEXT, checkpoint=kept.file):
        arguments = ["--text", text, "--checkpoint", str(checkpoint), "--out", str(tmp_path)]
        assert main([*arguments, *options]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out.splitlines()

    return look


@pytest.fixture
def refused(kept, tmp_path, capsys):
    """The one line that the command refuses with; nothing is printed or written beside it."""

    def refused(*options, text=TEXT, checkpoint=kept.file):
        out = tmp_path / "out"
        arguments = ["--text", text, "--checkpoint", str(checkpoint), "--out", str(out)]
        assert main([*arguments, *options]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        assert not out.exists()
        return printed.err

    return refused


# --- a kept classifier ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "."])
def test_a_kept_classifier_scores_the_test_texts_as_its_run_did(kept, name):
    import torch

    model, vocabulary, classes, config = load_classifier(kept.folder / name)
    data = load_data(TINY, kept.data_dir)
    assert (vocabulary, classes, config) == (data.vocabulary, data.classes, TINY)
    for row, text in enumerate(data.news.test.texts):
        numbers = number_words(words_of(text, config.max_length), vocabulary)
        with torch.no_grad():
            scores = model(torch.tensor([numbers]))[0].numpy()
        np.testing.assert_allclose(scores, kept.run.predictions["scores"][row], atol=1e-5)


def test_words_and_classes_are_kept_beside_the_weights_and_change_no_digest(kept):
    from safetensors import safe_open

    with safe_open(kept.file, framework="numpy") as file:
        said = file.metadata()
    vocabulary = load_data(TINY, kept.data_dir).vocabulary
    assert {w: n for n, w in enumerate(json.loads(said["vocabulary"]), start=2)} == vocabulary
    assert json.loads(said["classes"]) == ["World", "Sports", "Business", "Sci/Tech"]
    record = json.loads((kept.folder / "record.json").read_text())["record"]
    assert digest(load_file(kept.file)) == record["outcome"]["weights"]


# --- what is printed and drawn --------------------------------------------------------------------


def test_the_whole_answer(look, kept, tmp_path):
    import torch

    lines = look()
    model, vocabulary, classes, _ = load_classifier(kept.file)
    words = ["topic1word1", "noise1", "zebra", "topic1word2"]
    with torch.no_grad():
        scores = model(torch.tensor([number_words(words, vocabulary)]))[0].double().numpy()
    shares = np.exp(scores) / np.exp(scores).sum()
    ordered = sorted(range(4), key=lambda c: -shares[c])
    maps = attention_maps(model, vocabulary, words)
    leading = maps.panels[maps.leading].replace(", ", "-").replace(" ", "-")
    assert lines[0] == (f"Unknown words: 1 of 4 (the model knows {len(vocabulary):,}).")
    assert lines[1] == f"prediction: {classes[ordered[0]]}"
    for line, label in zip(lines[2:6], ordered, strict=True):
        name, share = line.split()
        assert name == classes[label]
        assert float(share) == pytest.approx(shares[label], abs=6e-5)
    assert tuple(lines[6:-2]) == maps.findings
    assert lines[-2:] == [
        f"written: {tmp_path}/attention-{leading}.png", f"written: {tmp_path}/attention-all.png"
    ]  # fmt: skip
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_one_head_can_be_asked_for(look, tmp_path):
    assert look("--layer", "2", "--head", "1")[-1].endswith("attention-layer-2-head-1.png")
    assert [file.name for file in tmp_path.iterdir()] == ["attention-layer-2-head-1.png"]


def test_another_text_is_drawn_anew_and_the_same_one_is_the_same_picture(look, tmp_path):
    one = ["--layer", "1", "--head", "1"]
    look(*one)
    file = tmp_path / "attention-layer-1-head-1.png"
    first = file.read_bytes()
    look(*one, text="topic2word1 noise3 noise2 topic1word2")
    second = file.read_bytes()
    look(*one)
    assert file.read_bytes() == first != second


def test_a_text_that_is_longer_than_the_model_reads_is_cut_and_that_is_said(look, kept):
    text = " ".join(["topic1word1"] * 25)
    lines = look("--layer", "1", "--head", "1", text=text)
    assert lines[0] == "The text has 25 words; the model reads the first 10 (max_length)."
    assert any("In the text of 10 words" in line for line in lines)


def test_a_text_of_one_word_says_that_there_is_nothing_to_see(look):
    assert "says nothing" in "\n".join(look(text="topic1word1"))


def test_the_command_shows_its_options_without_loading_torch():
    code = (
        "import sys, contextlib, models.transformer.attention as a\n"
        "with contextlib.suppress(SystemExit): a.main(['--help'])\n"
        "print(sorted({'torch', 'matplotlib', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--checkpoint FILE" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \n", "!!! --"])
def test_a_text_without_words(refused, text):
    assert "the text has no words: give --text some" in refused(text=text)


def test_a_text_without_a_known_word(refused, kept):
    known = len(load_data(TINY, kept.data_dir).vocabulary)
    assert f"none of the 2 words that are read of the text is among the {known} words" in refused(
        text="zebra giraffe"
    )


def test_a_text_whose_known_words_are_beyond_the_cut(refused):
    assert "none of the 10 words that are read" in refused(text="zebra " * 10 + "topic1word1")


@pytest.mark.parametrize("place", [(0, 1), (4, 1), (1, 0), (1, 3), (-1, 1)])
def test_a_head_that_is_not_there(refused, place):
    layer, head = map(str, place)
    assert (
        f"there is no layer {layer}, head {head}: this model has layers 1 to 3 and heads 1 to 2"
    ) in refused(f"--layer={layer}", f"--head={head}")


@pytest.mark.parametrize("option", ["--layer", "--head"])
def test_half_of_a_head_s_name(refused, option):
    assert "give --layer and --head, or neither" in refused(option, "1")


def test_a_file_that_is_missing_or_no_safetensors_file(refused, tmp_path):
    (tmp_path / "text.safetensors").write_text("no model")
    (tmp_path / "folder").mkdir()
    for name in ("none.safetensors", "text.safetensors", "folder"):
        assert f"{name} cannot be read as safetensors" in refused(checkpoint=tmp_path / name)


def test_a_folder_for_pictures_that_cannot_be_made(kept, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = ["--text", TEXT, "--checkpoint", str(kept.file), "--out", str(tmp_path / "file")]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: pictures cannot be written to {tmp_path / 'file'} (")
    assert "written" not in printed.out


@pytest.fixture
def changed(kept, tmp_path):
    """The kept file with other metadata (None: without it) or weights."""

    def change(weights=lambda weights: weights, **metadata):
        from safetensors import safe_open

        with safe_open(kept.file, framework="numpy") as file:
            said = {**file.metadata(), **metadata}
        path = tmp_path / "changed.safetensors"
        said = {name: text for name, text in said.items() if text is not None}
        save_file(weights(load_file(kept.file)), path, said)
        return path

    return change


def config_with(**changes):
    return json.dumps({**dataclasses.asdict(TINY), **changes})


@pytest.mark.parametrize("train", ["models.biencoder:train_biencoder", "softmax:train", "", None])
def test_a_checkpoint_of_another_training_function(refused, changed, train):
    message = refused(checkpoint=changed(train=train))
    assert f"was kept by the training function {train or '(none is named)'}; expected" in message


@pytest.mark.parametrize("config", [None, "{", "[1]", '{"depth": 3}', config_with(num_heads=3)])
def test_a_checkpoint_without_a_configuration_of_a_classifier(refused, changed, config):
    message = refused(checkpoint=changed(config=config))
    assert "has no configuration of a classifier in its metadata" in message


@pytest.mark.parametrize("name", ["vocabulary", "classes"])
def test_a_checkpoint_from_before_words_were_kept(refused, changed, name):
    message = refused(checkpoint=changed(**{name: None}))
    assert f"holds no {name}, for it was kept by an older version: train it again" in message


@pytest.mark.parametrize(
    "about",
    [
        {"vocabulary": "{}"}, {"vocabulary": "["}, {"vocabulary": '["a", "a"]'},
        {"vocabulary": "[1]"}, {"classes": '["one"]'},
    ],
)  # fmt: skip
def test_a_checkpoint_with_words_that_are_none(refused, changed, about):
    assert "cannot be used: " in refused(checkpoint=changed(**about))


@pytest.mark.parametrize(
    "changes",
    [
        {"config": config_with(embed_dim=16)},
        {"config": config_with(num_layers=2)},
        {"config": config_with(ffn_dim=None)},
        {"config": config_with(positional_encoding="learned")},
        {"vocabulary": '["oil", "price"]'},
        {"classes": '["a", "b"]'},
        {"weights": lambda weights: dict(list(weights.items())[1:])},
    ],
)
def test_weights_of_another_shape_than_the_configuration_says(refused, changed, changes):
    message = refused(checkpoint=changed(**changes))
    assert "do not fit its configuration and vocabulary: " in message


def test_a_checkpoint_on_a_pretrained_encoder(refused, changed):
    message = refused(checkpoint=changed(config=config_with(encoder="some-encoder")))
    assert "a classifier on the pretrained encoder 'some-encoder'" in message


def test_what_is_wrong_with_a_checkpoint_is_one_kind_of_error(changed):
    with pytest.raises(CheckpointError):
        load_classifier(changed(classes=None))


def test_without_a_checkpoint_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--text", TEXT])
    assert stopped.value.code == 2
    assert "--checkpoint" in capsys.readouterr().err
