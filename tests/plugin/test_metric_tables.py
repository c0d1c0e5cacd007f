"""Many metrics: tables that a study defines, the references beside its variants, and the rest."""

import numpy as np
import pytest
from in_process import planned, report_of, result_of, section, table_in

from pytest_ablation import MetricTable, Mode, Study, StudyError, Variant
from pytest_ablation.plan import Plan

TASKS, CUTOFFS = ["near", "far"], ["top1", "mrr"]
METRICS = [f"{task}_{cutoff}" for task in TASKS for cutoff in CUTOFFS]


def value(depth, seed, metric):
    """Any number that tells depth, seed and metric apart."""
    return 0.4 + 0.1 * depth - 0.01 * seed + 0.003 * METRICS.index(metric)


def train(config, run):
    for name, figures in config["references"].items():
        run.reference(name, **figures)
    run.save_predictions(x=[config["depth"], run.seed])
    return {name: value(config["depth"], run.seed, name) for name in METRICS}


def study(*, metrics=METRICS, references=None, variants=(), **other):
    return Study(
        "retrieval",
        train=train,
        baseline={"depth": 2, "references": references or {}, "note": ""},
        variants=[Variant("shallow", depth=1), Variant("deep", depth=3), *variants],
        metrics=metrics,
        quick=Mode(seeds=2),
        **other,
    )


def tasks(**other):
    return [MetricTable("Tasks", rows=TASKS, columns=CUTOFFS, **other)]


# --- definition -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"title": " "}, "needs a title"),
        ({"rows": []}, r"'T': rows are a list of names, found \[\]"),
        ({"rows": "near"}, "rows are a list of names, found 'near'"),
        ({"columns": ["top1", 2]}, "columns are a list of names"),
        ({"rows": ["near", "near"]}, "rows name 'near' more than once"),
        ({"metric": "{column}"}, "2 cells show the metric 'top1'"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_an_error(arguments, message):
    with pytest.raises(StudyError, match=message):
        MetricTable(**{"title": "T", "rows": TASKS, "columns": ["top1"]} | arguments)


def test_a_metric_that_the_study_lacks_is_an_error_with_the_nearest_names():
    with pytest.raises(StudyError, match=r"'Tasks' shows 'near_mmr', which .* mean near_mrr"):
        study(tables=[MetricTable("Tasks", TASKS, ["top1", "mmr"])])
    with pytest.raises(StudyError, match=r"also has 'near_top2', .* mean near_top1"):
        study(also=["near_top2"])
    with pytest.raises(StudyError, match="tables are a list of MetricTable, found 'Tasks'"):
        study(tables=["Tasks"])


def test_one_table_needs_no_list():
    (one,) = tasks()
    assert study(tables=one).tables == (one,)


def test_tables_reach_other_processes_as_they_are(tmp_path):
    plan, _ = planned(study(tables=tasks(caption="Two tasks."), also=["far_mrr"]))
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan


# --- what the report shows --------------------------------------------------------------------


def test_each_column_is_a_table_with_a_line_per_variant_and_the_rows_side_by_side():
    text = section(report_of(result_of(study(tables=tasks(caption="Two *tasks*.")))), "### Tasks")
    assert r"Two \*tasks\*. Means over the seeds" in text
    for cutoff in CUTOFFS:
        rows = table_in(section(text, f"#### {cutoff}"))
        assert [row["variant"] for row in rows] == ["`baseline`", "`shallow`", "`deep`"]
        for row, depth in zip(rows, [2, 1, 3], strict=True):
            for task in TASKS:
                mean = np.mean([value(depth, seed, f"{task}_{cutoff}") for seed in range(2)])
                bold = "**" if depth == 3 else ""
                assert row[task] == f"{bold}{mean:.3f}{bold}"


def test_the_metric_pattern_names_the_cells():
    table = MetricTable("T", ["top1", "mrr"], ["near", "far"], metric="{column}_{row}")
    assert set(table.metrics) == set(METRICS)
    text = section(report_of(result_of(study(tables=[table]))), "#### far")
    assert table_in(text)[0]["mrr"] == f"{np.mean([value(2, s, 'far_mrr') for s in (0, 1)]):.3f}"


def test_rows_of_the_same_runs_are_one_line():
    again = Variant("again", against="shallow", depth=2)
    text = section(report_of(result_of(study(tables=tasks(), variants=[again]))), "#### top1")
    assert [row["variant"] for row in table_in(text)] == [
        "`baseline`, `again`", "`shallow`", "`deep`",
    ]  # fmt: skip


def test_what_is_shown_alike_is_equally_best():
    names = ["a", "b", "c"]
    figures = dict(zip(names, [0.41236, 0.41244, 0.4119], strict=True))

    def train(config, run):
        run.save_predictions(x=[names.index(config["name"])])
        return {"one": figures[config["name"]]}

    alike = Study(
        "alike", train=train, baseline={"name": "a"}, metrics=["one"], quick=Mode(seeds=2),
        variants=[Variant(name, name=name) for name in names[1:]],
        tables=[MetricTable("T", ["one"], ["all"], metric="{row}")],
    )  # fmt: skip
    shown = table_in(section(report_of(result_of(alike)), "#### all"))
    assert {row["variant"]: row["one"] for row in shown} == {
        "`baseline`": "**0.412**", "`b`": "**0.412**", "`c`": "**0.412**",
    }  # fmt: skip


def main_header(study):
    return list(table_in(report_of(result_of(study)))[0])


def test_the_main_table_shows_what_was_chosen_for_it():
    beside = [f"{name} (delta)" for name in METRICS[1:]]
    assert main_header(study())[-3:] == beside, "all of a few"
    assert main_header(study(tables=tasks()))[-1] == "verdict"
    assert main_header(study(tables=tasks(), also=["far_mrr"]))[-2:] == [
        "verdict", "far_mrr (delta)",
    ]  # fmt: skip
    assert main_header(study(also=[]))[-1] == "verdict"


def test_more_than_six_metrics_are_left_to_the_table_files():
    def many(count):
        names = [f"m{n}" for n in range(count)]
        return Study(
            "many",
            train=lambda config, run: dict.fromkeys(names, 0.1 * config["a"] + 0.01 * run.seed),
            baseline={"a": 1}, variants=[Variant("two", a=2)], metrics=names, quick=Mode(seeds=2),
        )  # fmt: skip

    assert len([name for name in main_header(many(6)) if name.endswith("(delta)")]) == 5
    text = report_of(result_of(many(7)))
    assert "6 more metrics in `summary.csv`." in text
    assert "m1" not in text
    assert "more metric" not in report_of(result_of(many(6)))


def test_a_row_that_has_trouble_says_so_in_every_table():
    result = result_of(study(tables=tasks()), skip=["shallow"])
    rows = table_in(section(report_of(result), "#### mrr"))
    shallow = next(row for row in rows if row["variant"].startswith("`shallow`"))
    assert shallow == {"variant": "`shallow` **missing**", "near": "", "far": ""}


# --- references -------------------------------------------------------------------------------

FIGURES = {"TF-IDF | b": {"near_top1": 0.9, "far_top1": 0.1}, "untrained": {"near_mrr": 0.25}}


def test_references_stand_first_and_may_lack_figures():
    text = report_of(result_of(study(tables=tasks(), references=FIGURES)))
    top1 = table_in(section(text, "#### top1").replace(r"\|", "/"))
    assert top1[0] == {"variant": "TF-IDF / b (not trained)", "near": "**0.900**", "far": "0.100"}
    assert [row["variant"] for row in top1[1:]] == ["`baseline`", "`shallow`", "`deep`"]
    mrr = table_in(section(text, "#### mrr"))
    assert mrr[0] == {"variant": "untrained (not trained)", "near": "0.250", "far": ""}
    main = table_in(text.replace(r"\|", "/"))
    assert main[0]["variant"] == "TF-IDF / b (not trained)"
    assert main[0]["near_top1"] == "0.9000"
    assert [row["variant"] for row in main].count("untrained (not trained)") == 0
    assert "Warning" not in text


def test_references_that_differ_between_runs_are_shown_each_with_a_warning():
    other = {"TF-IDF": {"near_top1": 0.8}}
    changed = Variant("other_data", references=other)
    defined = study(references={"TF-IDF": {"near_top1": 0.9}}, variants=[changed], tables=tasks())
    text = report_of(result_of(defined))
    assert "**Warning**: the figures of TF-IDF are not the same for all runs" in text
    labels = [row["variant"] for row in table_in(section(text, "#### top1"))[:2]]
    assert labels[1] == "TF-IDF (not trained; told by `other_data` seeds 0 and 1)"
    assert labels[0].startswith("TF-IDF (not trained; told by `baseline` seeds 0 and 1; `shallow`")


def test_figures_that_complete_each_other_are_one_reference():
    more = Variant("more", references={"TF-IDF": {"near_top1": 0.9, "far_top1": 0.2}})
    defined = study(references={"TF-IDF": {"near_top1": 0.9}}, variants=[more], tables=tasks())
    rows = table_in(section(report_of(result_of(defined)), "#### top1"))
    assert [row["variant"] for row in rows].count("TF-IDF (not trained)") == 1
    assert rows[0]["far"] == "0.200"
