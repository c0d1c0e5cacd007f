"""Older logs: what a line says, what a file says, and that nothing is dropped or made up."""
# ruff: noqa: RUF001 - Chinese logs have full-width signs

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ablation.log_lines import clean, read_line
from pytest_ablation.logs import LogError, parse_history, parse_log, read_log
from pytest_ablation.tables import HISTORY_COLUMNS


def values(log):
    """(seed, epoch, split, metric) to value."""
    return {(r.seed, r.epoch, r.split, r.metric): r.value for r in log.rows}


def figures(line):
    """A line as (epoch, {(split, metric): value}), None where it is not read."""
    read = read_line(clean(line))
    return read and (read.epoch, {f.what: f.value_as(percent=False) for f in read.figures})


# --- a line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "epoch", "found"),
    [
        ("训练集top1 accuracy为0.73", None, {("train", "top1"): 0.73}),
        ("验证集top1 accuracy为73%", None, {("validation", "top1"): 0.73}),
        ("测试集 top-10 accuracy 为：７３．０ ％。", None, {("test", "top10"): 0.73}),
        ("验证集的准确率是0.5，损失为1.25", None,
         {("validation", "top1"): 0.5, ("validation", "loss"): 1.25}),
        ("第3轮", 3, {}),
        ("第 12 个epoch：训练集top5 accuracy为0.9", 12, {("train", "top5"): 0.9}),
        ("Val loss: 0.41, Acc: 87.50%", None,
         {("validation", "loss"): 0.41, ("validation", "top1"): 0.875}),
        ("Train loss: 1e-3, Acc: 99 %", None, {("train", "loss"): 0.001, ("train", "top1"): 0.99}),
        ("Test Loss=.5 Top-5 Acc = 0.9", None, {("test", "loss"): 0.5, ("test", "top5"): 0.9}),
        ("Epoch 3/200", 3, {}),
        ("epoch: 3", 3, {}),
        ("Epoch [3/10] | train_loss: 0.5 | val_acc: 0.25 | lr: 1e-4 | time: 12.3s", 3,
         {("train", "loss"): 0.5, ("validation", "top1"): 0.25}),
        ("2024-01-31 12:00:00,123 - root - INFO - Epoch 3: Val Acc 0.65", 3,
         {("validation", "top1"): 0.65}),
        ("[10:01:05,310 INFO] test acc: 0.65", None, {("test", "top1"): 0.65}),
        ("\x1b[32mVal Acc@1 0.5 Acc@5 0.75\x1b[0m", None,
         {("validation", "top1"): 0.5, ("validation", "top5"): 0.75}),
        ("Train Loss: 0.5, Train Acc: 0.9, Val Loss: 0.4, Val Acc: 0.8", None,
         {("train", "loss"): 0.5, ("train", "top1"): 0.9,
          ("validation", "loss"): 0.4, ("validation", "top1"): 0.8}),
        ("训练集top1 accuracy为0.9验证集top1 accuracy为0.8", None,
         {("train", "top1"): 0.9, ("validation", "top1"): 0.8}),
        ("val loss: inf", None, {("validation", "loss"): math.inf}),
    ],
)  # fmt: skip
def test_a_line_is_read(line, epoch, found):
    assert figures(line) == (epoch, pytest.approx(found, abs=0))


@pytest.mark.parametrize(
    "line",
    [
        "加载数据...",
        "Best Val Acc: 87.5%",
        "最佳验证集top1 accuracy为0.9",
        "Val acc: 0.65 (best 0.66)",
        "best_val_acc: 0.9",
        "Loss: 0.4, Acc: 0.9",  # of which split?
        "Train Epoch: 3 [320/60000 (1%)] Loss: 0.5",  # of a single batch
        "Batch: 500, Train Loss: 0.5",
        "Epoch 3: 100%|████| 3/3 [00:01<00:00, loss=0.3]",
        "epochs: 200",
        "Epoch 3.5",
        "val loss: 0.3.5",
        "val loss: 0.3abc",
        "val loss: 40%",
        "val loss:",
        "val acc: 120%",
        "val acc: -0.1",
        "val top0 acc: 0.5",
        "val top 10.65",
        "val loss 0.3 val loss 0.4",
        "val_loss_triplet: 0.3",
        "第3个batch",
        "top1 accuracy为0.73",
        "lr: 0.1",
        "Epoch 1 Epoch 2",
        "Val loss: 0.3 " + "." * 2000,
        "Saving to Val loss: 0.3",
    ],
)
def test_a_line_that_is_not_wholly_understood_is_not_read(line):
    assert figures(line) is None


@given(st.text(max_size=80))
def test_no_text_makes_the_reader_fail(text):
    log = parse_log(text, "x")
    assert all(0 <= row.value <= 1 or row.metric == "loss" for row in log.rows)


# --- a file ---------------------------------------------------------------------------------------


ACCURACY = st.integers(0, 10_000)  # hundredths of a percent
EPOCHS = st.lists(st.tuples(ACCURACY, ACCURACY, ACCURACY), min_size=1, max_size=12)


@given(EPOCHS, st.sampled_from(["", " ", "　"]), st.sampled_from(["plain", "percent", "wide"]),
       st.booleans())  # fmt: skip
def test_known_numbers_come_back_from_the_chinese_form(epochs, space, form, markers):
    write = {
        "plain": lambda a: f"{a / 10_000:.4f}",
        "percent": lambda a: f"{a / 100:.2f}{space}%",
        "wide": lambda a: f"{a / 100:.2f}%".translate({n: n + 0xFEE0 for n in range(33, 127)}),
    }[form]  # fmt: skip
    text, expected = "", {}
    for number, accuracies in enumerate(epochs, start=1):
        text += f"第{number}轮\n" if markers else ""
        names = (("训练", "train"), ("验证", "validation"), ("测试", "test"))
        for (word, split), accuracy in zip(names, accuracies, strict=True):
            text += f"{word}集{space}top1 accuracy{space}为{space}{write(accuracy)}\n"
            expected[0, number, split, "top1"] = accuracy / 10_000
    log = parse_log(text, "x")
    assert values(log) == expected
    assert (log.lines, log.unread) == (len(text.splitlines()), ())


@given(EPOCHS, st.booleans(), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_known_numbers_come_back_from_the_english_form(epochs, percent, markers, end):
    sign = "%" if percent else ""
    text, expected = "", {}
    for number, (train, validation, loss) in enumerate(epochs, start=1):
        text += f"Epoch {number}/{len(epochs)}{end}" if markers else ""
        for word, split, accuracy in (("Train", "train", train), ("Val", "validation", validation)):
            shown = accuracy / 100 if percent else accuracy / 10_000
            text += f"{word} loss: {loss / 7!r}, Acc: {shown!r}{sign}{end}"
            expected[0, number, split, "top1"] = accuracy / 10_000
            expected[0, number, split, "loss"] = loss / 7
    log = parse_log(text, "x")
    assert values(log) == expected
    assert log.unread == ()


def test_accuracies_that_go_above_1_are_percent_by_split_and_metric():
    log = parse_log("Train Acc: 0.5, Val Acc: 0.9\nTrain Acc: 0.6, Val Acc: 55.5\n", "x")
    assert values(log) == {
        (0, 1, "train", "top1"): 0.5,
        (0, 1, "validation", "top1"): 0.009,
        (0, 2, "train", "top1"): 0.6,
        (0, 2, "validation", "top1"): 0.555,
    }
    assert any("taken as percent: validation top1" in note for note in log.notes)


def test_without_markers_an_epoch_ends_when_a_metric_of_a_split_comes_again():
    log = parse_log(
        "Train acc: 0.1\nVal acc: 0.2\nTrain acc: 0.3\nTrain acc: 0.4\nVal acc: 0.5", "x"
    )
    assert values(log) == {
        (0, 1, "train", "top1"): 0.1,
        (0, 1, "validation", "top1"): 0.2,
        (0, 2, "train", "top1"): 0.3,
        (0, 3, "train", "top1"): 0.4,
        (0, 3, "validation", "top1"): 0.5,
    }
    assert any("no epoch is named" in note for note in log.notes)


def test_with_markers_the_last_value_of_an_epoch_holds_and_the_others_are_counted():
    log = parse_log("Epoch 2\nVal acc: 0.1\nVal acc: 0.2\nEpoch 5\nVal acc: 0.3\n", "x")
    assert values(log) == {(0, 2, "validation", "top1"): 0.2, (0, 5, "validation", "top1"): 0.3}
    assert any(note.startswith("1 values were replaced") for note in log.notes)


def test_markers_at_the_end_of_an_epoch_hold_for_the_lines_before_them():
    log = parse_log("Val acc: 0.1\nEpoch 1/2\nVal acc: 0.2\nEpoch 2/2\n", "x")
    assert values(log) == {(0, 1, "validation", "top1"): 0.1, (0, 2, "validation", "top1"): 0.2}


def test_a_figure_before_the_first_marker_belongs_to_no_epoch():
    log = parse_log("Val acc: 0.1\nEpoch 1/2\nVal acc: 0.2\n", "x")
    assert values(log) == {(0, 1, "validation", "top1"): 0.2}
    assert [(line.number, line.text) for line in log.unread] == [(1, "Val acc: 0.1")]
    assert log.lines == 2


def test_epochs_from_0_are_counted_from_1():
    log = parse_log("Epoch 0/2\nVal acc: 0.1\nEpoch 1/2\nVal acc: 0.2\n", "x")
    assert [row.epoch for row in log.rows] == [1, 2]
    assert any("from 0" in note for note in log.notes)


def test_epochs_that_begin_anew_are_runs_and_those_that_go_back_a_little_are_resumed():
    def lines(epochs):
        return "".join(f"Epoch {e}\nVal acc: 0.{e}{place}\n" for place, e in enumerate(epochs))

    two = parse_log(lines([1, 2, 3, 1, 2]), "x")
    assert [(row.seed, row.epoch) for row in two.rows] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert any("2 runs" in note for note in two.notes)
    resumed = parse_log(lines([1, 2, 3, 2, 3, 4]), "x")
    assert [(row.epoch, row.value) for row in resumed.rows] == [
        (1, 0.10), (2, 0.23), (3, 0.34), (4, 0.45),
    ]  # fmt: skip
    assert any(note.startswith("2 values were replaced") for note in resumed.notes)
    assert [row.epoch for row in parse_log(lines([1, 3, 2, 4]), "x").rows] == [1, 2, 3, 4]


def test_every_line_is_read_shown_or_empty():
    text = "hello\n\n-----\nEpoch 1\nVal acc: 0.5\nBest acc: 0.5\n=====\nbye \x1b[31m\x07"
    log = parse_log(text, "x")
    assert [(line.number, line.text) for line in log.unread] == [
        (1, "hello"), (6, "Best acc: 0.5"), (8, "bye \ufffd"),
    ]  # fmt: skip
    assert log.lines == 2


def test_figures_of_other_names_are_named_as_left_out():
    log = parse_log("Val acc: 0.5, F1: 0.4 | lr: 1e-3\n", "x")
    assert "left out: F1, lr" in log.notes


def test_what_is_not_finite_is_kept():
    log = parse_log("Val loss: nan, Acc: nan\nVal loss: inf\nVal loss: -Infinity", "x")
    assert [str(row.value) for row in log.rows] == ["nan", "nan", "inf", "-inf"]


# --- on disk --------------------------------------------------------------------------------------


LINES = "开始\n验证集top1 accuracy为0.65\n测试集top1 accuracy为61%\n"


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", ()),
        ("utf-8-sig", ()),
        ("gb18030", ("not UTF-8, read as GB18030",)),
        ("utf-16", ("not UTF-8, read as UTF-16",)),
    ],
)
def test_encodings(tmp_path, encoding, note):
    path = tmp_path / "旧.log"
    path.write_bytes(LINES.encode(encoding))
    log = read_log(path)
    assert [(r.study, r.variant, r.split, r.value) for r in log.rows] == [
        ("log", "旧", "validation", 0.65), ("log", "旧", "test", 0.61),
    ]  # fmt: skip
    assert log.notes[: len(note)] == note
    assert [line.text for line in log.unread] == ["开始"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "No such file"),
        (b"", "found nothing"),
        (b"hello\nworld\n", "found 2 lines, the first is 'hello'"),
        (b"Epoch 1\nEpoch 2\n", "found"),
        (b"\xff\xff\xff\xff", "not text in UTF-8 or GB18030 (byte 0)"),
        (b"\x89PNG\0\0\0", "not text"),
        (",".join(HISTORY_COLUMNS).encode() + b"\n", "found"),
    ],
)
def test_a_file_without_a_line_that_can_be_read_is_an_error(tmp_path, data, words):
    path = tmp_path / "a.log"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(LogError) as error:
        read_log(path)
    for part in (str(path), words, "expected lines such as 'Val loss: 0.41, Acc: 87.50%'"):
        assert part in str(error.value)


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(LogError, match="cannot be read"):
        read_log(tmp_path)


def test_a_history_comes_back_and_its_damaged_rows_are_shown():
    text = (
        ",".join(HISTORY_COLUMNS) + "\n"
        'study,plain,2,quick,3,train,loss,"0.5"\n'
        "study,plain,2,quick,4,train,loss,nan\n"
        "study,plain,2,quick,5,train,loss,'-inf\n"
        "study,plain,2,quick,six,train,loss,0.5\n"
        "study,plain\n"
    )
    log = parse_history(text)
    assert [(*row[:7], str(row.value)) for row in log.rows] == [
        ("study", "plain", 2, "quick", 3, "train", "loss", "0.5"),
        ("study", "plain", 2, "quick", 4, "train", "loss", "nan"),
        ("study", "plain", 2, "quick", 5, "train", "loss", "-inf"),
    ]
    assert [line.number for line in log.unread] == [5, 6]
    assert log.lines == 3
