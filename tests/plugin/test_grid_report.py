"""A grid in the report: its table, the same on the screen, and which cell its baseline is."""

import re

import pytest
from in_process import report_of, result_of, section, table_in
from scipy import stats
from softmax import BASELINE, train
from told_studies import of_grid, on_best_cell, told_grid

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.plan import Plan
from pytest_ablation.results import study_result
from pytest_ablation.terminal import study_lines

CELLS = [(width, rate) for width in (64, 128, 256) for rate in (0.0005, 0.001)]
RISING = {(w, r): [w / 1000 + r, w / 1000 + 2 * r] for w, r in CELLS}


@pytest.fixture(scope="module")
def grid():
    """A real one: softmax regression over batch size (with momentum) and learning rate."""
    return Study.grid(
        "sizes", train=train, select="validation_top1",
        axes={("batch_size", "momentum"): [(10, 0.0), (50, 0.5)],
              "learning_rate": [0.005, 0.02, 0.1]},
        baseline={**BASELINE, "batch_size": 50, "momentum": 0.5, "learning_rate": 0.02},
        cell_name="b{batch_size}-lr{learning_rate}", allow_different=["batch_order", "steps"],
        metrics=["top1", "top2", "validation_top1"], quick=Mode(seeds=4, epochs=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(grid):
    return of_grid(grid)


def validated(result):
    """Cell to what it is chosen by, seed by seed, the best first."""
    values = {
        row.name: [run.record.metrics["validation_top1"] for run in row.runs] for row in result.rows
    }
    return dict(sorted(values.items(), key=lambda item: -sum(item[1])))


def plain(cell):
    return cell.strip("*`")


# --- the table --------------------------------------------------------------------------------


def test_the_best_cell_stands_first_and_bold(result):
    text = report_of(result)
    rows = table_in(section(text, "## sizes (quick)"))
    order = list(validated(result))
    means = [row.metrics["validation_top1"].mean for row in map(result.row, order)]
    assert [plain(row["cell"]) for row in rows] == order
    assert [plain(row["validation_top1"])[:6] for row in rows] == [f"{mean:.4f}" for mean in means]
    assert rows[0]["cell"] == f"**`{order[0]}`**"
    assert rows[0]["outcome"] == "**best**"
    assert not any(row["cell"].startswith("*") for row in rows[1:])
    assert "Ordered by `validation_top1`" in text


def test_the_columns_are_the_axes_and_the_metrics(result):
    row = table_in(section(report_of(result), "## sizes (quick)"))[-1]
    size, rate = row["cell"].strip("`b").split("-lr")
    assert row["batch\\_size, momentum"] == {"10": "10, 0", "50": "50, 0.5"}[size]
    assert row["learning\\_rate"] == rate
    found = result.row(plain(row["cell"])).metrics
    assert row["top1"] == f"{found['top1'].mean:.4f} ± {found['top1'].std:.4f}"
    assert row["top2"].startswith(f"{found['top2'].mean:.4f}")
    assert row["seeds"] == "4"


def test_how_far_the_others_are_behind_is_paired_by_seed(result):
    values = validated(result)
    best, *_ = values
    rows = table_in(section(report_of(result), "## sizes (quick)"))
    checked = 0
    for row in rows[1:]:
        test = stats.ttest_rel(values[best], values[plain(row["cell"])])
        low, high = test.confidence_interval(0.95)
        mean = sum(values[best]) / 4 - sum(values[plain(row["cell"])]) / 4
        assert row["behind the best"] == f"{mean:+.4f}"
        if high - low > 1e-9:
            assert row["95 % interval"] == f"{low:+.4f} to {high:+.4f}"
            assert row["outcome"].startswith("behind" if low > 0 else "not told apart")
            checked += 1
    assert checked >= 3


def test_the_baselines_cell_is_named_and_rows_are_not_described_twice(result):
    text = section(report_of(result), "## sizes (quick)")
    named = [row for row in table_in(text) if "(the baseline's cell)" in row["outcome"]]
    assert [plain(row["cell"]) for row in named] == ["b50-lr0.02"]
    assert "Deltas in the CSV files are against the baseline's cell, `b50-lr0.02`, with" in text
    assert "batch\\_size=10, momentum=0" not in text


def test_cells_without_all_their_results_come_last_with_what_became_of_them():
    defined = told_grid(RISING, diverge=[(256, 0.001)])
    text = report_of(of_grid(defined, skip=["128-0.001"]))
    rows = table_in(section(text, "## sizes (quick)"))
    assert [plain(row["cell"]) for row in rows] == [
        "256-0.0005", "128-0.0005", "64-0.001", "64-0.0005", "128-0.001", "256-0.001",
    ]  # fmt: skip
    assert [row["outcome"] for row in rows[-2:]] == ["**missing**", "**diverged**"]
    assert rows[-1]["behind the best"] == ""


def test_what_becomes_of_the_baselines_cell_does_not_take_the_others_out():
    found = of_grid(told_grid(RISING, diverge=[(64, 0.0005)]))
    assert {row.status for row in found.rows} == {"diverged"}, "as the table files have it"
    rows = table_in(section(report_of(found), "## sizes (quick)"))
    assert [plain(row["cell"]) for row in rows][:2] == ["256-0.001", "256-0.0005"]
    assert rows[-1]["outcome"] == "**diverged** (the baseline's cell)"
    assert [row["outcome"] for row in rows].count("**diverged**") == 0


@pytest.mark.parametrize("diverge", [(), [(64, 0.0005)]])
def test_a_cell_that_is_not_comparable_is_never_the_best(diverge):
    """Where the baseline's cell has no result, too, which all were to be compared with."""
    data = {cell: int(cell == (64, 0.001)) for cell in RISING}
    rows = table_in(section(report_of(of_grid(told_grid(RISING, data=data, diverge=diverge))),
                            "## sizes (quick)"))  # fmt: skip
    assert rows[0]["cell"] == "**`256-0.001`**"
    assert [plain(r["cell"]) for r in rows if r["outcome"] == "**unfair**"] == ["64-0.001"]


def test_the_metric_that_cells_are_chosen_by_can_lead():
    found = of_grid(told_grid(RISING), metric="validation_top1")
    (row, *_) = table_in(section(report_of(found), "## sizes (quick)"))
    assert list(row)[3:] == ["seeds", "validation_top1", "behind the best", "95 % interval", "top1",
                             "outcome"]  # fmt: skip
    assert "Its `" not in report_of(found)


def test_figures_that_no_training_changed_stand_before_the_cells():
    def train(config, run):
        run.reference("guessing", top1=0.25)
        run.save_predictions(x=[config["width"]])
        return {"top1": 0.1 * config["width"], "validation_top1": 0.1 * config["width"]}

    found = of_grid(told_grid({(1,): [0.1]}, axes={"width": [1, 2]}, train=train))
    first = table_in(section(report_of(found), "## sizes (quick)"))[0]
    assert (first["cell"], first["top1"]) == ("guessing (not trained)", "0.2500")


def test_the_same_records_give_the_same_text(grid, result, tmp_path):
    from in_process import planned

    plan, _ = planned(grid, rows=list(grid.case_rows))
    plan.write(tmp_path)
    records = {run.key: run.record for run in reversed(result.runs.values())}
    again = study_result(Plan.read(tmp_path).studies[0], records, {})
    assert report_of(again) == report_of(result)
    assert study_lines(again) == study_lines(result)


# --- the screen -------------------------------------------------------------------------------


def test_the_screen_has_the_cells_in_the_same_order(result):
    lines = study_lines(result)
    order = list(validated(result))
    assert lines[0] == "sizes (quick), best by validation_top1"
    assert lines[1].split() == ["cell", "mean", "behind", "95", "%", "interval", "top1"]
    assert [line.split()[0] for line in lines[2:]] == order
    assert lines[2].split()[1:] == [
        f"{result.row(order[0]).metrics['validation_top1'].mean:.4f}", "best",
        f"{result.row(order[0]).metrics['top1'].mean:.4f}",
        *(["(baseline)"] if order[0] == "b50-lr0.02" else []),
    ]  # fmt: skip
    assert sum("(baseline)" in line for line in lines) == 1
    assert max(map(len, lines)) <= 80


def test_long_names_stay_within_80_columns():
    name, metric, select = "w" * 40, "m" * 80, "v" * 80
    values = {1: [-0.1, -0.2], 2: [-0.3, -0.9]}

    def train(config, run):
        run.save_predictions(x=[config[name]])
        if config[name] == 3:
            run.step([0], loss=float("nan"))
        value = values[config[name]][run.seed]
        return {metric: value, select: value}

    defined = told_grid(
        {(1,): [0.1, 0.2]}, axes={name: [1, 2, 3]}, train=train, metrics=[metric, select],
        select=select, cell_name="c" * 70 + f"{{{name}}}",
    )  # fmt: skip
    lines = study_lines(of_grid(defined))
    assert max(map(len, lines)) <= 80
    assert lines[-1].split()[-1] == "DIVERGED"
    assert metric in "".join(lines).replace(" ", "")


# --- a baseline that is a grid's best cell ----------------------------------------------------


def on_best(values, **mode):
    return Study(
        "components", train=lambda config, run: {"top1": 0.5 + 0.001 * run.seed + config["width"]},
        baseline={"width": 64, "rate": 0.0005}, metrics=["top1"],
        variants=[Variant("thin", width=1)],
        quick=Mode(seeds=len(next(iter(values.values()))), config=told_grid(values).best(), **mode),
    )  # fmt: skip


VALUES = {cell: [0.5, 0.51, 0.52] for cell in CELLS}


def notes_of(values):
    return section(report_of(on_best_cell(on_best(values))), "## components (quick)").splitlines()


def test_the_section_says_which_cell_the_baseline_is_and_its_lead():
    values = VALUES | {(256, 0.001): [0.61, 0.63, 0.62], (128, 0.001): [0.58, 0.615, 0.59]}
    note = next(line for line in notes_of(values) if line.startswith("- Baseline:"))
    low, high = stats.ttest_rel(values[256, 0.001], values[128, 0.001]).confidence_interval(0.95)
    assert low > 0
    assert note == (
        r"- Baseline: the cell `256-0.001` of `sizes` (width=256, rate=0.001), best by "
        "`validation_top1` (mean 0.6200, 3 seeds); second `128-0.001`, 2.5 points behind "
        f"(interval {100 * low:+.1f} to {100 * high:+.1f}, 3 seeds)"
    )


@pytest.mark.parametrize(
    ("best", "why"),
    [
        ([0.51, 0.60, 0.52], r"\+3.3 points, interval -8.9 to \+15.6, 3 seeds"),
        ([0.50, 0.51, 0.53], r"\+0.3 points, interval -1.1 to \+1.8, 3 seeds"),
        ([0.51, 0.52, 0.53], r"\+1.0 points, the same at all 3 seeds, no interval"),
    ],
)
def test_a_lead_that_is_none_is_said_to_be_none(best, why):
    note = next(line for line in notes_of(VALUES | {(256, 0.001): best}) if "Baseline:" in line)
    assert re.search(rf"; it cannot be told apart from the second, `64-0.0005` \({why}\)$", note)


def test_with_one_seed_the_lead_has_no_interval():
    values = {cell: by_seed[:1] for cell, by_seed in VALUES.items()} | {(256, 0.001): [0.6]}
    note = next(line for line in notes_of(values) if "Baseline:" in line)
    assert note.endswith("(mean 0.6000, 1 seed); it cannot be told apart from the second, "
                         "`64-0.0005` (+10.0 points, 1 seed, no interval)")  # fmt: skip


def test_a_study_with_a_baseline_of_its_own_says_nothing_of_the_kind():
    defined = Study(
        "own", train=lambda config, run: {"top1": config["a"]}, baseline={"a": 0.1},
        metrics=["top1"], variants=[Variant("b", a=0.2)], quick=Mode(seeds=2),
    )  # fmt: skip
    assert "Baseline: the cell" not in report_of(result_of(defined))
