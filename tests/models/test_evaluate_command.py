"""The command: the eight tasks of any encoder, and of the models that runs have kept."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import write_tiny_bert

from models.arguana import load_arguana
from models.biencoder import BiEncoderConfig, train_biencoder
from models.biencoder.evaluate import main
from models.biencoder.tasks import TASKS, arguana_tasks
from pytest_ablation.mode import Mode
from pytest_ablation.single import train_single

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["task", "queries", "mean_candidates", "top1", "top5", "top10", "mrr"]

#: What is changed in each of the models that are kept.
KEPT = {
    "baseline": {},
    "separate": {"shared": False, "layernorm": True, "fusion": "both"},
    "fine_tuned": {"train_encoder": True, "shared": False, "encoder_learning_rate": 0.001},
}


@pytest.fixture(scope="module")
def kept(biencoder_folder, tmp_path_factory):
    """Three runs in a store: variant to (its figures, its model.safetensors)."""
    settings = {
        "encoder": str(biencoder_folder / "bert0"), "encoder_precision": "float32",
        "max_length": 12, "embed_dim": 16, "rerank_top": 5, "rerank_weight": 5.0,
        "learning_rate": 0.01, "batch_size": 16,
    }  # fmt: skip
    store = tmp_path_factory.mktemp("kept") / ".ablation"
    runs = {
        variant: train_single(
            train_biencoder, BiEncoderConfig(**settings, **changes), seed=0, store=store,
            mode=Mode(seeds=1, epochs=4), device="cpu", data_dir=biencoder_folder, threads=1,
        )
        for variant, changes in KEPT.items()
    }  # fmt: skip
    return {
        variant: (run.record.metrics, run.folder / "model.safetensors")
        for variant, run in runs.items()
    }


@pytest.fixture
def evaluate(biencoder_folder, tmp_path, capsys, monkeypatch):
    """Run the command in this process; returns its table by task, read from ``--out``."""
    monkeypatch.delenv("ABLATION_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def evaluate(*arguments, data=biencoder_folder):
        data_option = [] if data is None else ["--ablation-data", str(data)]
        out = tmp_path / "out" / "table.csv"
        cache = ["--cache", str(biencoder_folder / "cache")]
        status = main([*map(str, arguments), *data_option, *cache, "--out", str(out)])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        with open(out, newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        assert reader.fieldnames == COLUMNS
        assert_same_table(printed.out, rows)
        assert [row["task"] for row in rows] == list(TASKS)
        return {row.pop("task"): {n: float(v) for n, v in row.items()} for row in rows}

    return evaluate


def assert_same_table(printed, rows):
    """What is printed is the file, with fewer digits."""
    header, *lines = (line.split() for line in printed.splitlines())
    assert header == COLUMNS
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line[:2] == [row["task"], row["queries"]]
        for shown, name in zip(line[2:], COLUMNS[2:], strict=True):
            digits = 1 if name == "mean_candidates" else 4
            assert shown == f"{float(row[name]):.{digits}f}"


def command(*arguments, cwd=ROOT, **environment):
    """Run it as a user would."""
    inherited = {name: v for name, v in os.environ.items() if name != "ABLATION_DATA"}
    return subprocess.run(
        [sys.executable, "-m", "models.biencoder.evaluate", *map(str, arguments)],
        cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True,
    )  # fmt: skip


# --- encoders ---------------------------------------------------------------------------------


def figures_of(split, similarities):
    """The table by Python's sort: task to figures."""
    table = {}
    for task in arguana_tasks(split):
        ranks = []
        for i, own in enumerate(split.counters):
            allowed = np.flatnonzero(task.allowed[i]).tolist()
            order = sorted(allowed, key=lambda j: (-round(similarities[i, j], 7), j))
            ranks.append(order.index(own) + 1)
        ranks = np.array(ranks)
        table[task.name] = {
            "queries": len(ranks),
            "mean_candidates": task.allowed.sum() / len(ranks),
            **{f"top{k}": np.mean(ranks <= k) for k in (1, 5, 10)},
            "mrr": np.mean(1 / ranks),
        }
    return table


def cosines_of(split, rows):
    from sklearn.metrics.pairwise import cosine_similarity

    return cosine_similarity(rows[list(split.queries)], rows)


def assert_tables_agree(found, expected):
    assert found.keys() == expected.keys()
    for task, figures in expected.items():
        assert found[task] == pytest.approx(figures), task


@pytest.mark.parametrize("name", ["training", "validation", "test"])
def test_tfidf_is_that_of_scikit_learn_on_every_split(name, evaluate, biencoder_folder):
    from sklearn.feature_extraction.text import TfidfVectorizer

    split = getattr(load_arguana(biencoder_folder), "train" if name == "training" else name)
    rows = TfidfVectorizer(sublinear_tf=True, stop_words="english").fit_transform(split.texts)
    found = evaluate("--encoder", "tfidf", "--split", name)
    assert_tables_agree(found, figures_of(split, cosines_of(split, rows)))


def test_the_test_split_is_the_default(evaluate):
    assert evaluate("--encoder", "tfidf") == evaluate("--encoder", "tfidf", "--split", "test")


@pytest.mark.parametrize("options", [[], ["--max-length", 4, "--precision", "float32"]])
def test_a_folder_with_an_encoder_is_compared_by_cosine(options, evaluate, biencoder_folder):
    from models.pretrained.encoder import Encoder

    bert = write_tiny_bert(biencoder_folder / "long", positions=128, width=64)
    options = options or ["--precision", "float32"]
    split = load_arguana(biencoder_folder).test
    rows = Encoder(bert, 4 if "--max-length" in options else 128)(list(split.texts))
    found = evaluate("--encoder", bert, *options)
    assert_tables_agree(found, figures_of(split, cosines_of(split, rows.astype(np.float64))))


def test_it_runs_as_a_command_in_a_process_of_its_own(biencoder_folder, evaluate, tmp_path):
    """The corpus by the variable; nothing but the table is printed."""
    out = tmp_path / "new" / "table.csv"
    done = command("--encoder", "tfidf", "--out", out, ABLATION_DATA=str(biencoder_folder))
    assert (done.returncode, done.stderr) == (0, "")
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert_same_table(done.stdout, rows)
    expected = evaluate("--encoder", "tfidf")
    assert {row["task"]: float(row["mrr"]) for row in rows} == {
        task: figures["mrr"] for task, figures in expected.items()
    }
    assert out.read_bytes() == (tmp_path / "out" / "table.csv").read_bytes()


def test_the_option_wins_over_the_variable(evaluate, small_arguana, monkeypatch):
    monkeypatch.setenv("ABLATION_DATA", str(small_arguana))
    assert evaluate("--encoder", "tfidf")["epa"]["queries"] == 20
    assert evaluate("--encoder", "tfidf", data=None)["epa"]["queries"] == 23


def test_tfidf_on_the_real_test_split_gives_the_known_figure(real_arguana):
    done = command("--encoder", "tfidf", "--ablation-data", real_arguana)
    assert done.returncode == 0, done.stderr
    epa = done.stdout.splitlines()[-1].split()
    assert epa[:4] == ["epa", "1401", "2806.0", "0.2641"]


# --- kept models ------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", KEPT)
def test_a_kept_model_gives_the_figures_of_its_run(variant, kept, evaluate):
    figures, path = kept[variant]
    for prefix, options in (("", []), ("reranked_", ["--rerank"])):
        table = evaluate("--checkpoint", path, *options)
        for task in TASKS:
            for name in ("top1", "top5", "top10", "mrr"):
                expected = figures[f"{prefix}{task}_{name}"]
                # runs.csv has six digits.
                assert table[task][name] == pytest.approx(expected, abs=1e-6), (task, name)
    names = [f"{task}_{figure}" for task in TASKS for figure in ("top1", "mrr")]
    assert any(figures[name] != figures[f"reranked_{name}"] for name in names)


def test_a_kept_model_is_asked_in_a_process_of_its_own(kept, biencoder_folder):
    figures, path = kept["separate"]
    done = command(
        "--checkpoint", path, "--rerank", "--ablation-data", biencoder_folder,
        "--cache", biencoder_folder / "cache",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    epa = done.stdout.splitlines()[-1].split()
    assert epa[0] == "epa"
    assert float(epa[3]) == pytest.approx(figures["reranked_epa_top1"], abs=1e-4)


def test_a_checkpoint_without_its_encoder_is_asked_with_another_of_its_width(
    kept, evaluate, biencoder_folder
):
    """Folders move: the same files under another name give the same table."""
    _, path = kept["baseline"]
    moved = shutil.copytree(
        biencoder_folder / "bert0", biencoder_folder / "elsewhere", dirs_exist_ok=True
    )
    same = evaluate("--checkpoint", path, "--encoder", moved)
    assert same == evaluate("--checkpoint", path)
    assert same != evaluate("--checkpoint", path, "--encoder", biencoder_folder / "bert1")
    assert same != evaluate("--checkpoint", path, "--max-length", 4)


# --- bad input --------------------------------------------------------------------------------


@pytest.fixture
def refused(biencoder_folder, tmp_path, capsys, monkeypatch):
    """Run the command in this process; returns its error; it stands on stderr, status 1."""
    monkeypatch.delenv("ABLATION_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def refused(*arguments, data=biencoder_folder):
        data_option = [] if data is None else ["--ablation-data", str(data)]
        status = main([*map(str, arguments), *data_option])
        printed = capsys.readouterr()
        assert status == 1
        progress, start, error = printed.err.partition("error: ")
        assert start
        assert all(line.startswith("encoding ") for line in progress.splitlines())
        assert "Traceback" not in error
        return error

    return refused


def write_safetensors(path, weights, metadata=None):
    from safetensors.numpy import save_file

    save_file(weights, path, metadata)
    return path


def test_what_is_not_there_is_said(refused, tmp_path):
    error = refused("--encoder", "no-such-encoder")
    assert "the encoder 'no-such-encoder' was not found" in error
    error = refused("--encoder", "tfidf", data=tmp_path)
    assert f"no ArguAna corpus in {tmp_path}" in error
    error = refused("--encoder", "tfidf", data=None)
    assert "no corpus: give the folder" in error
    assert "ABLATION_DATA" in error
    error = refused("--checkpoint", tmp_path / "none.safetensors")
    assert "none.safetensors cannot be read as safetensors" in error
    assert "--ablation-save-models" in error


def test_options_that_do_not_go_together_are_refused(refused, tmp_path):
    assert "give --encoder tfidf, an encoder, or --checkpoint" in refused()
    error = refused("--encoder", "tfidf", "--checkpoint", tmp_path / "x")
    assert "leave --encoder tfidf out" in error
    assert "--rerank needs the classifier" in refused("--encoder", "tfidf", "--rerank")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device, refused, biencoder_folder):
    error = refused("--encoder", biencoder_folder / "bert0", "--device", device)
    assert f"--device {device} cannot be used here" in error


def test_a_length_that_the_encoder_does_not_take_is_refused(refused, biencoder_folder):
    bert = biencoder_folder / "bert0"
    assert "has 64 positions" in refused("--encoder", bert, "--max-length", 65)
    assert "max_length must be an integer of 3" in refused("--encoder", bert, "--max-length", 2)


def test_a_table_that_cannot_be_written_is_said_after_it_was_printed(refused, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "table.csv", tmp_path):
        error = refused("--encoder", "tfidf", "--out", out)
        assert f"the table cannot be written to {out}" in error


def test_a_file_that_is_no_checkpoint_is_refused(refused, tmp_path, kept):
    _, path = kept["baseline"]
    text, cut = tmp_path / "text.safetensors", tmp_path / "cut.safetensors"
    text.write_text("not a model")
    cut.write_bytes(path.read_bytes()[:-10])
    for wrong in (text, cut, tmp_path):
        assert f"{wrong} cannot be read as safetensors" in refused("--checkpoint", wrong)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"seed": "0"},
        {"config": "{"},
        {"config": "[]"},
        {"config": '{"num_heads": 4}'},
        {"config": '{"embed_dim": 0}'},
    ],
)
def test_a_model_without_a_configuration_of_a_biencoder_is_refused(metadata, refused, tmp_path):
    path = write_safetensors(
        tmp_path / "other.safetensors", {"w": np.zeros((2, 2), np.float32)}, metadata
    )
    error = refused("--checkpoint", path)
    assert "has no configuration of a bi-encoder in its metadata" in error
    assert "embed_dim" in error


def test_weights_of_other_shapes_or_names_are_refused(refused, tmp_path, kept, biencoder_folder):
    from safetensors import safe_open
    from safetensors.numpy import load_file

    _, path = kept["baseline"]
    narrow = write_tiny_bert(tmp_path / "narrow", width=16)
    message = "do not fit its configuration and encoder"
    assert message in refused("--checkpoint", path, "--encoder", narrow)
    weights = load_file(path)
    with safe_open(path, framework="numpy") as file:
        config = json.loads(file.metadata()["config"])
    wider = {"config": json.dumps(config | {"embed_dim": 17})}
    layernorm = {"config": json.dumps(config | {"layernorm": True})}
    same = {"config": json.dumps(config)}
    fewer = {name: w for name, w in weights.items() if name != "head.projection.bias"}
    with_encoder = weights | {"encoders.0.extra": np.zeros(3, np.float32)}
    cases = [(weights, wider), (weights, layernorm), (fewer, same), (with_encoder, same)]
    for number, (changed, metadata) in enumerate(cases):
        wrong = write_safetensors(tmp_path / f"{number}.safetensors", changed, metadata)
        assert message in refused("--checkpoint", wrong)


@pytest.mark.parametrize(
    "arguments",
    [["--no-such-option"], ["--enc", "tfidf"], ["--split", "dev"], ["--precision", "int8"],
     ["--max-length", "many"]],
)  # fmt: skip
def test_an_option_that_does_not_exist_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m models.biencoder.evaluate" in capsys.readouterr().err


def test_bad_input_leaves_no_traceback_in_a_process_of_its_own(tmp_path):
    done = command("--encoder", "tfidf", "--ablation-data", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no ArguAna corpus in")
    assert len(done.stderr.splitlines()) == 1
