"""The report files: their columns, their numbers derived another way, and what a reader sees."""

import math
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from in_process import result_of
from projects import ROOT, STUDY

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.comparisons import compare
from pytest_ablation.report_files import write_reports

VARIANTS = """
    Variant("no_bias", use_bias=False, description="No bias: lines through the origin | only."),
    Variant("heavy", momentum=0.9),
    Variant("bias_back", against="no_bias", use_bias=True),
    Variant("slow", learning_rate=0.005),
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """One session's reports, made once for the tests of this module."""
    path = tmp_path_factory.mktemp("reported")
    shutil.copy(ROOT / "tests" / "studies" / "softmax.py", path)
    (path / "conftest.py").write_text('pytest_plugins = ["pytest_ablation.plugin"]\n')
    text = STUDY.format(variants=VARIANTS, more="", test="ablation.run()")
    (path / "test_softmax.py").write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "quick", "--ablation-jobs=1"],
        cwd=path, text=True, stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "80", "GITHUB_STEP_SUMMARY": str(path / "step")},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    (path / "output.txt").write_text(result.stdout)
    return path


def tables_of(text):
    """The Markdown tables of a report, each as its lines."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [block for block in blocks if block[0].startswith("|")]


def table(reported, name):
    return pd.read_csv(reported / "reports" / "quick" / f"{name}.csv")


def test_the_columns_are_the_documented_ones(reported):
    assert list(table(reported, "runs")) == [
        "study", "variant", "seed", "mode", "metric", "value", "baseline", "baseline_value",
        "delta", "status", "epochs", "steps", "train_seconds", "examples_per_second",
        "peak_memory_mib", "parameters", "reused", "key",
    ]  # fmt: skip
    assert list(table(reported, "summary")) == [
        "study", "variant", "mode", "metric", "baseline", "n_seeds", "mean", "std",
        "baseline_mean", "delta", "delta_pct", "ci_low", "ci_high", "p_value",
        "smallest_detectable", "verdict", "status", "same_as",
    ]  # fmt: skip
    assert list(table(reported, "history")) == [
        "study", "variant", "seed", "mode", "epoch", "split", "metric", "value",
    ]  # fmt: skip


def test_the_summary_agrees_with_the_runs(reported):
    runs, summary = table(reported, "runs"), table(reported, "summary")
    for row in summary.itertuples():
        of = runs[(runs.variant == row.variant) & (runs.metric == row.metric)]
        assert row.n_seeds == len(of) == 3
        assert row.mean == pytest.approx(of.value.mean())
        assert row.std == pytest.approx(of.value.std(ddof=1))
        if isinstance(row.baseline, float):  # the baseline's own row has none
            continue
        base = runs[(runs.variant == row.baseline) & (runs.metric == row.metric)]
        assert list(of.baseline_value) == list(base.value)
        assert list(of.delta) == pytest.approx(list(of.value.values - base.value.values))
        assert row.baseline_mean == pytest.approx(base.value.mean())
        assert row.delta == pytest.approx(row.mean - row.baseline_mean)
        assert row.delta_pct == pytest.approx(100 * row.delta / row.baseline_mean)
        delta = together(runs[runs.metric == row.metric], summary)[row.variant]
        assert (row.ci_low, row.ci_high) == pytest.approx((delta.low, delta.high))
        assert row.p_value == pytest.approx(delta.p_value)


def together(runs, summary):
    """The comparisons of all variants in one metric, from the numbers in the files."""
    rows = {name: dict(zip(of.seed, of.value, strict=True)) for name, of in runs.groupby("variant")}
    compared = summary.drop_duplicates("variant").dropna(subset="baseline")
    same = summary.drop_duplicates("variant").dropna(subset="same_as")
    first = dict(zip(same.variant, same.same_as, strict=True))
    pairs = {
        row.variant: tuple(first.get(name, name) for name in (row.variant, row.baseline))
        for row in compared.itertuples()
    }
    found = compare(rows, sorted(set(pairs.values())), margin=0.005)
    return {variant: found[pair] for variant, pair in pairs.items()}


def test_rows_of_the_same_runs_say_so(reported):
    summary = table(reported, "summary").set_index(["variant", "metric"])
    assert summary.loc[("bias_back", "top1"), "same_as"] == "baseline"
    assert summary.same_as.isna().sum() == 8
    keys = table(reported, "runs").groupby("variant").key.unique()
    assert sorted(keys["bias_back"]) == sorted(keys["baseline"])
    assert "(same model as `baseline`)" in (reported / "reports/quick/report.md").read_text()
    output = (reported / "output.txt").read_text()
    assert "bias_back is the same model as baseline" in output


def test_a_mirrored_comparison_has_the_mirrored_delta(reported):
    summary = table(reported, "summary").set_index(["variant", "metric"])
    there, back = (summary.loc[(name, "top1"), "delta"] for name in ("no_bias", "bias_back"))
    assert back == pytest.approx(-there)


def test_the_history_has_every_logged_value(reported):
    history = table(reported, "history")
    assert len(history) == 5 * 3 * 2  # rows, seeds, epochs
    assert set(history.metric) == {"loss"}
    first = history.groupby("epoch").value.mean()
    assert first[2] < first[1], "training lowers the loss"


def test_costs_are_measured(reported):
    runs = table(reported, "runs")
    assert (runs.train_seconds > 0).all()
    assert (runs.examples_per_second > 0).all()
    assert (runs.peak_memory_mib > 10).all()
    assert set(runs.parameters) == {9}
    assert set(runs.steps) == {20}
    assert set(runs.epochs) == {2}


def test_the_report_is_ordered_by_delta_and_escapes_what_it_quotes(reported):
    text = (reported / "reports" / "quick" / "report.md").read_text()
    assert text.startswith("# Ablation report: quick\n")
    rows = [line.split("|")[1].strip(" `") for line in tables_of(text)[0][2:]]
    summary = table(reported, "summary")
    leading = summary[(summary.metric == "top1") & summary.delta.notna()].set_index("variant")
    assert rows[0] == "baseline"
    assert list(leading.delta[rows[1:]]) == sorted(leading.delta)
    assert r"No bias: lines through the origin \| only." in text


def test_every_row_of_a_markdown_table_has_the_cells_of_its_header(reported):
    text = (reported / "reports" / "quick" / "report.md").read_text()
    main, *others = tables_of(text)
    assert len(main) == 2 + 5
    assert [len(lines) for lines in others] == [2 + 4] * len(others), "a line per model"
    for lines in (main, *others):
        assert len({line.count("|") - line.count(r"\|") for line in lines}) == 1


def test_the_conclusions_follow_from_the_numbers(reported):
    text = (reported / "reports" / "quick" / "report.md").read_text()
    summary = table(reported, "summary")
    top1 = summary[summary.metric == "top1"]
    for row in top1[top1.verdict.isin(["worse", "better"])].itertuples():
        assert f"- `{row.variant}` is {row.verdict}: top1 changes by {100 * row.delta:+.1f}" in text
    inconclusive = top1[top1.verdict == "inconclusive"]
    if len(inconclusive):
        assert "inconclusive at this number of seeds" in text


def test_the_job_summary_of_github_gets_the_same_text(reported):
    assert (reported / "step").read_text() == (reported / "reports/quick/report.md").read_text()


def test_the_terminal_table_fits_80_columns_and_says_where_the_files_are(reported):
    lines = (reported / "output.txt").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if " ablation " in line and "==" in line)
    shown = lines[start:]
    assert max(map(len, shown)) <= 80
    assert any(line.split()[:1] == ["no_bias"] for line in shown)
    assert "report: reports/quick/report.md" in lines


def test_text_that_a_spreadsheet_would_run_is_made_text():
    from pytest_ablation.tables import to_csv

    frame = pd.DataFrame([["=1+1", "@x", "-2", -0.5, None, -0.0]], dtype=object)
    assert to_csv(frame).splitlines()[1] == "'=1+1,'@x,'-2,-0.5,,0"


def test_a_loss_that_is_not_finite_stays_visible_in_the_history(project):
    project.write_study('Variant("hot", learning_rate=1e200, momentum=1e10)')
    path = project.path / "softmax.py"
    path.write_text(path.read_text().replace("run.step(batch, epoch=epoch, loss=loss)",
                                             "run.step(batch)"))  # fmt: skip
    project.run("-m", "quick")
    values = [row["value"] for row in project.rows("history") if row["variant"] == "hot"]
    assert values
    assert not any(math.isfinite(float(value)) for value in values)


def test_text_from_training_cannot_end_its_line_or_become_markup():
    from pytest_ablation.report import escape

    assert escape("a\n# b & <i>|`x`") == r"a \# b &amp; \<i\>\|\`x\`"
    assert escape("$a$") == r"\$a\$"  # a formula on GitHub


@pytest.fixture
def with_half_a_pair(tmp_path):
    """The arguments of a report that quotes what no UTF-8 text can hold."""

    def train(config, run):
        if config["cut"]:
            raise RuntimeError("an emoji cut in half: \ud83d")
        return {"top1": 0.5}

    study = Study(
        "quoted", train=train, baseline={"cut": False}, variants=[Variant("cut", cut=True)],
        metrics=["top1"], quick=Mode(seeds=2, epochs=1),
    )  # fmt: skip
    return tmp_path / "quick", [result_of(study)]


def test_text_that_no_file_can_hold_does_not_cost_the_report(
    with_half_a_pair, tmp_path, monkeypatch
):
    folder, results = with_half_a_pair
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", f"{tmp_path / 'step.md'}")
    write_reports(folder, results, session="s", warnings=())
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert r"an emoji cut in half: \ud83d" in text
    assert (tmp_path / "step.md").read_text(encoding="utf-8") == text


def test_a_file_that_cannot_be_written_leaves_nothing_half(with_half_a_pair):
    folder, results = with_half_a_pair
    (folder / "report.md").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_reports(folder, results, session="s", warnings=())
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == set()
