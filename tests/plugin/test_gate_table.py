"""gate.csv: its columns, and that reading it gives back what was found."""

import io
import math

import pandas as pd
import pytest
from told_gates import each_outcome, gate, gate_row

from pytest_ablation.gate_results import WHOLE
from pytest_ablation.gate_table import gate_table
from pytest_ablation.tables import to_csv


def read_back(*gates):
    return pd.read_csv(io.StringIO(to_csv(gate_table(gates))), keep_default_na=False, dtype=str)


def test_the_columns_are_the_documented_ones():
    assert list(read_back(each_outcome())) == [
        "study", "variant", "mode", "metric", "outcome", "reference_mean", "mean", "delta",
        "ci_low", "ci_high", "margin", "missed", "n_seeds", "n_reference_seeds", "paired", "looks",
        "newly_wrong", "newly_right", "message",
    ]  # fmt: skip
    assert list(read_back()) == list(read_back(each_outcome()))


def test_a_row_per_comparison_in_the_order_of_the_gate():
    told = gate(*each_outcome().rows, gate_row("pass", WHOLE, study="grid"), mode="full")
    table = read_back(each_outcome(), told)
    assert list(table.variant) == [
        *(row.row for row in each_outcome().rows), *(row.row for row in told.rows),
    ]  # fmt: skip
    assert list(table["mode"]) == ["quick"] * 5 + ["full"] * 6
    assert table.iloc[-1].variant == "(all rows)"


def test_numbers_come_back_to_ten_digits():
    row = gate_row("fail", delta=-1 / 3, low=-2 / 3, high=-1e-7, missed=0.0, flips=(3, 0), looks=2)
    (line,) = read_back(gate(row)).to_dict("records")
    for column, value in {
        "delta": row.delta, "ci_low": row.low, "ci_high": row.high, "margin": 0.005,
        "reference_mean": row.old_mean, "mean": row.new_mean, "missed": 0.0,
    }.items():  # fmt: skip
        assert float(line[column]) == pytest.approx(value, rel=1e-9)
    assert (line["n_seeds"], line["n_reference_seeds"], line["looks"]) == ("3", "5", "2")
    assert (line["paired"], line["newly_wrong"], line["newly_right"]) == ("true", "3", "0")


def test_what_is_not_known_is_empty():
    unbounded = gate_row("inconclusive", low=-math.inf, high=math.inf, missed=None)
    first, error = read_back(gate(unbounded, gate_row("error"))).to_dict("records")
    assert first["ci_low"] == first["ci_high"] == first["missed"] == first["newly_wrong"] == ""
    assert error["delta"] == error["mean"] == error["paired"] == ""
    assert (error["outcome"], error["message"]) == ("error", "seed 2 is missing: train it")


def test_an_error_beyond_rows_is_not_lost():
    table = read_back(gate(gate_row("pass"), errors=("study 'grid'\nis missing, \"all\" of it",)))
    line = table.iloc[1]
    assert (line.study, line["mode"], line.outcome) == ("", "quick", "error")
    assert line.message == "study 'grid'\nis missing, \"all\" of it"


def test_the_bytes_are_the_same_and_no_formula_gets_in():
    text = to_csv(gate_table([gate(gate_row("error", message="=cmd()"))]))
    assert text == to_csv(gate_table([gate(gate_row("error", message="=cmd()"))]))
    assert text.splitlines()[1].endswith(",'=cmd()")
