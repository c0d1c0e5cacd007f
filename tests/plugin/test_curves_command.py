"""``python -m pytest_ablation curves`` from outside: files, output and exit status."""

import csv
import os
import shlex
import subprocess
import sys

import pytest

OLD = "".join(
    f"训练集top1 accuracy为{0.5 + epoch / 10:.2f}\n验证集top1 accuracy为{0.4 + epoch / 10:.2f}\n"
    for epoch in range(1, 5)
)
NEW = "Epoch 1/2\nVal loss: 0.9, Acc: 50.0%\nBest so far\nEpoch 2/2\nVal loss: nan, Acc: 75.0%\n"


@pytest.fixture
def logs(project):
    (project.path / "old.log").write_text(OLD, encoding="utf-8")
    (project.path / "new.txt").write_text(NEW, encoding="utf-8")
    return project


def curves(project, *arguments):
    return project.python("-m", "pytest_ablation", "curves", *arguments)


def history(project, out="reports/curves"):
    with open(project.path / out / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_logs_become_a_table_and_a_figure(logs):
    result = curves(logs, "old.log", "new.txt")
    assert (result.ret, result.errlines) == (0, [])
    rows = history(logs)
    assert list(rows[0]) == "study variant seed mode epoch split metric value".split()
    assert len(rows) == 8 + 4
    assert rows[0] == {
        "study": "log", "variant": "old", "seed": "0", "mode": "", "epoch": "1",
        "split": "train", "metric": "top1", "value": "0.6",
    }  # fmt: skip
    new = [(r["epoch"], r["metric"], r["value"]) for r in rows if r["variant"] == "new"]
    assert new == [("1", "loss", "0.9"), ("1", "top1", "0.5"),
                   ("2", "loss", "nan"), ("2", "top1", "0.75")]  # fmt: skip
    image = (logs.path / "reports" / "curves" / "figures" / "curves.png").read_bytes()
    assert image.startswith(b"\x89PNG")


def test_the_output_has_best_and_last_values_and_every_line_that_was_not_read(logs):
    (logs.path / "new.txt").write_text(NEW + "Val Acc: 62.5%\n" + "chatter\n" * 9)
    lines = curves(logs, "old.log", "new.txt").outlines
    cells = [line.split() for line in lines]
    assert ["old", "1", "4", "training", "0.9000", "(4)", "0.9000"] in cells
    assert ["1", "4", "validation", "0.8000", "(4)", "0.8000"] in cells
    assert ["new", "1", "2", "validation", "0.6250", "(2)", "0.6250"] in cells
    assert "old.log: 8 lines read, 0 not read" in lines
    assert "new.txt: 5 lines read, 10 not read" in lines
    assert "  line 3: Best so far" in lines
    assert "  and 5 lines more" in lines
    assert "  1 values were replaced by later ones of the same epoch" in lines
    assert max(map(len, lines)) <= 80


def test_a_history_of_a_session_stands_beside_old_logs(logs):
    logs.write_study('Variant("slow", learning_rate=0.05)')
    assert logs.run("-m", "quick").ret == 0
    session = logs.rows("history")
    result = curves(logs, "new.txt", "reports/quick/history.csv", "--metric", "loss",
                    "--out", "beside")  # fmt: skip
    assert result.ret == 0
    assert not (logs.path / "reports" / "curves").exists()
    rows = history(logs, "beside")
    assert rows[4:] == session
    assert [line.split()[0] for line in result.outlines if " training " in line] == [
        "baseline", "slow",
    ]  # fmt: skip
    again = curves(logs, "beside/history.csv", "--out", "again")
    assert again.ret == 0
    assert history(logs, "again") == rows


def test_the_same_logs_give_the_same_bytes(logs):
    for out in ("a", "b"):
        assert curves(logs, "old.log", "new.txt", "--out", out).ret == 0
    for name in ("history.csv", "figures/curves.png"):
        assert (logs.path / "a" / name).read_bytes() == (logs.path / "b" / name).read_bytes()


def test_the_loss_is_drawn_where_no_accuracy_is_there(logs):
    (logs.path / "loss.log").write_text("Val loss: 0.9\nVal loss: 0.4\nVal loss: 0.7\n")
    cells = [line.split() for line in curves(logs, "loss.log").outlines]
    assert ["loss", "1", "3", "validation", "0.4000", "(2)", "0.7000"] in cells


def test_a_log_without_the_metric_says_so_and_a_longer_name_finds_a_shorter(logs):
    (logs.path / "loss.log").write_text("Val loss: 0.9\n")
    result = curves(logs, "old.log", "loss.log", "--metric", "epa_top1")
    assert result.ret == 0
    assert any(line.split() == ["loss", "has", "no", "epa_top1"] for line in result.outlines)
    assert any(line.split()[:1] == ["old"] for line in result.outlines)


def test_variants_of_the_same_name_are_told_apart(logs):
    for folder in ("first", "second"):
        (logs.path / folder).mkdir()
        (logs.path / folder / "train.log").write_text(NEW)
    result = curves(logs, "first/train.log", "second/train.log", "first/train.log")
    assert result.ret == 0
    assert sorted({row["variant"] for row in history(logs)}) == ["second/train", "train"]
    again = curves(logs, "reports/curves/history.csv", "first/train.log", "--out", "x")
    assert {row["variant"] for row in history(logs, "x")} == {
        "train",
        "second/train",
        "first/train",
    }
    assert any("is called first/train" in line for line in again.outlines)
    (logs.path / "copy.csv").write_bytes((logs.path / "x" / "history.csv").read_bytes())
    curves(logs, "x/history.csv", "copy.csv", "--out", "y")
    assert len({row["variant"] for row in history(logs, "y")}) == 6


def test_nothing_is_written_where_nothing_was_read(logs):
    (logs.path / "empty.log").write_text("hello\n")
    result = curves(logs, "empty.log", "missing.log")
    assert result.ret == 1
    errors = "\n".join(result.errlines)
    assert "error: empty.log: found 1 lines, the first is 'hello'" in errors
    assert "error: missing.log: cannot be read (No such file or directory)" in errors
    assert "nothing is written" in errors
    assert not (logs.path / "reports").exists()


def test_one_bad_file_is_an_error_but_does_not_hide_the_others(logs):
    result = curves(logs, "old.log", "missing.log")
    assert result.ret == 1
    assert any("missing.log" in line for line in result.errlines)
    assert len(history(logs)) == 8


def test_a_folder_that_cannot_be_written_is_an_error(logs):
    (logs.path / "file").write_text("")
    result = curves(logs, "old.log", "--out", "file")
    assert result.ret == 1
    assert "choose another folder with --out" in "\n".join(result.errlines)


def test_a_figure_that_cannot_be_drawn_is_an_error_and_leaves_the_table(logs):
    code = (
        "import sys; sys.modules['matplotlib'] = None; from pytest_ablation.cli import main; "
        "sys.exit(main(['curves', 'old.log']))"
    )
    result = logs.python("-c", code)
    assert result.ret == 1
    (error,) = result.errlines
    assert error.startswith("error: the curves could not be drawn (ModuleNotFoundError: ")
    assert error.endswith("their numbers are in reports/curves/history.csv")
    assert len(history(logs)) == 8


def test_names_cannot_move_the_cursor(logs):
    name = "a\x1b[2Jb"
    (logs.path / f"{name}.log").write_text(OLD, encoding="utf-8")
    (logs.path / "h.csv").write_text(
        "study,variant,seed,mode,epoch,split,metric,value\n"
        '"s","v\r\nw\x1b[31m",0,quick,1,test,top1,0.5\n', newline=""
    )  # fmt: skip
    result = curves(logs, f"{name}.log", "h.csv", f"{name}.txt")
    assert result.ret == 1
    output = "\n".join(result.outlines + result.errlines)
    assert "\x1b" not in output
    assert "\r" not in output
    assert "a\ufffd[2Jb.log: 8 lines read" in output
    assert any(line.startswith("v\ufffd\ufffdw\ufffd[31m ") for line in result.outlines)


@pytest.mark.parametrize(
    "arguments",
    [(), ("curves",), ("curve", "old.log"), ("curves", "old.log", "--ou", "x")],
    ids=["nothing", "no log", "no such command", "no such option"],
)
def test_a_wrong_command_line_is_a_usage_error(logs, arguments):
    result = logs.python("-m", "pytest_ablation", *arguments)
    assert result.ret == 2
    assert any(line.startswith("usage: python -m pytest_ablation") for line in result.errlines)


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
def test_a_reader_that_stops_reading_costs_no_file_and_gets_no_traceback(logs):
    command = f"{shlex.quote(sys.executable)} -m pytest_ablation curves old.log new.txt | true"
    done = subprocess.run(["sh", "-c", command], cwd=logs.path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert len(history(logs)) == 12
