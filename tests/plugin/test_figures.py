"""Curves: their numbers by brute force, the PNG's bytes and size, and their place in a report."""

import math
import os
import struct
import subprocess
import sys

import pytest
from figure_checks import chunks
from hypothesis import given
from hypothesis import strategies as st
from in_process import report_of, result_of, section
from projects import ROOT

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.curves import (
    Panel,
    drawn_metric,
    logged_metric,
    remarks,
    seed_counts,
    series,
    splits_of,
)
from pytest_ablation.drawing import curves_png, write_curves
from pytest_ablation.figures import draw_studies, study_panels
from pytest_ablation.report import SessionFacts, markdown

BY_SEED = st.dictionaries(
    st.integers(0, 4),
    st.dictionaries(st.integers(1, 9), st.floats(width=32), min_size=1),
    min_size=1,
)


def panel(title="plain", *, epochs=5, seeds=2, splits=("train", "validation"), reported=None):
    """Curves that rise, a little different for each seed and split."""
    values = {
        split: {
            seed: {e: 1 - 1 / (e + 1 + seed / 5 + place) for e in range(1, epochs + 1)}
            for seed in range(seeds)
        }
        for place, split in enumerate(splits)
    }
    return Panel(title, values, reported)


def size(png):
    return struct.unpack(">II", dict(chunks(png))[b"IHDR"][:8])


# --- numbers --------------------------------------------------------------------------------------


@given(BY_SEED)
def test_mean_and_band_agree_with_brute_force(by_seed):
    line = series(by_seed)
    for place, epoch in enumerate(line.epochs):
        values = [v[epoch] for v in by_seed.values() if epoch in v and math.isfinite(v[epoch])]
        assert line.seeds[place] == len(values)
        if values:
            assert line.mean[place] == pytest.approx(sum(values) / len(values), rel=1e-6, abs=1e-6)
            assert (line.low[place], line.high[place]) == (min(values), max(values))
        else:
            assert math.isnan(line.mean[place])
    assert set(line.epochs) == {epoch for values in by_seed.values() for epoch in values}
    assert list(line.epochs) == sorted(line.epochs)


def test_the_mean_is_over_the_seeds_that_still_train_and_n_says_so():
    stopped = Panel("x", {"test": {0: {1: 0.2, 2: 0.4, 3: 0.6}, 1: {1: 0.4, 2: 0.8}, 2: {1: 0.6}}})
    assert series(stopped.values["test"]).mean == pytest.approx((0.4, 0.6, 0.6))
    assert seed_counts(stopped) == "n = 3, from epoch 2: 2, from epoch 3: 1"
    assert any("still there" in remark for remark in remarks([stopped]))
    assert not any("still there" in remark for remark in remarks([panel()]))


def test_many_changes_of_n_are_summed_up():
    five = Panel("x", {"test": {seed: dict.fromkeys(range(1, 9 - seed), 0.5) for seed in range(5)}})
    assert seed_counts(five) == "n = 1 to 5, changing in epochs 5 to 8"


def test_a_seed_whose_value_is_not_finite_is_left_out_of_mean_and_n():
    lost = Panel("x", {"train": {0: {1: 2.0, 2: 1.0}, 1: {1: 4.0, 2: math.nan}}})
    assert series(lost.values["train"]).mean == (3.0, 1.0)
    assert seed_counts(lost) == "n = 2, from epoch 2: 1"


@pytest.mark.parametrize(
    ("leading", "names", "found"),
    [
        ("top1", {"top1", "retrieval_top1"}, "top1"),
        ("epa_top1", {"loss", "top1"}, "top1"),
        ("epa_top1", {"top1", "epa_top1"}, "epa_top1"),
        ("a_b_top1", {"top1", "b_top1"}, "b_top1"),
        ("epa_top1", {"op1", "loss"}, None),
        ("top1", {"epa_top1"}, None),
        ("neg_loss", {"loss"}, None),  # which falls where the leading metric rises
        ("epa_neg_mse", {"mse", "neg_mse"}, "neg_mse"),
        ("neg_mse", {"mse"}, None),
        ("top1", set(), None),
    ],
)
def test_the_leading_metric_or_the_longest_name_it_ends_with_is_drawn(leading, names, found):
    assert logged_metric(leading, names) == found


def test_splits_stand_in_the_order_of_training():
    odd = Panel("x", {split: {} for split in ("zoo", "test", "validation", "holdout", "train")})
    assert splits_of([odd]) == ["train", "validation", "test", "holdout", "zoo"]


# --- the image ------------------------------------------------------------------------------------


def test_the_same_panels_give_the_same_bytes_in_another_process_and_place(tmp_path):
    path = tmp_path / "figures" / "here.png"
    write_curves(path, [panel(reported=3.0)], "top1", "a title")
    code = (
        "import sys; from pathlib import Path; from test_figures import panel, write_curves;"
        "write_curves(Path(sys.argv[1]), [panel(reported=3.0)], 'top1', 'a title');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "matplotlibrc").write_text("font.size: 30\naxes.edgecolor: red\n")
    there = tmp_path / "elsewhere" / "there.png"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "plugin")])
    subprocess.run(
        [sys.executable, "-c", code, there],
        cwd=tmp_path / "elsewhere",  # matplotlib would take its matplotlibrc from here
        env={**os.environ, "PYTHONPATH": paths, "TZ": "Asia/Tokyo"},
        check=True,
    )
    assert there.read_bytes() == path.read_bytes()


def test_an_image_holds_no_date_no_path_and_no_program():
    found = chunks(curves_png([panel()], "top1", "a title", "abc"))
    assert {kind for kind, _ in found} <= {b"IHDR", b"pHYs", b"tEXt", b"IDAT", b"IEND"}
    assert [data for kind, data in found if kind == b"tEXt"] == [b"Digest\0abc"]


def test_an_image_is_as_wide_as_a_report_and_grows_by_rows():
    sizes = {n: size(curves_png([panel(f"v{i}") for i in range(n)], "top1", "t"))
             for n in (1, 2, 3, 4, 5, 8)}  # fmt: skip
    assert {width for width, _ in sizes.values()} == {1350}
    heights = {n: height for n, (_, height) in sizes.items()}
    assert heights[1] == heights[2] == heights[3] < heights[4] == heights[5] < heights[8]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "odd",
    [
        panel(epochs=1, seeds=1),
        panel(epochs=40, seeds=1, splits=("train", "validation", "test", "holdout")),
        panel("$\\frac{$ 实验 " + "long_" * 30),
        Panel("nothing", {}),
        Panel("nan", {"train": {0: {1: math.nan, 2: math.inf}}}),
        Panel("gap", {"train": {0: {1: 0.1, 2: math.nan, 3: 0.2}}}),
        Panel("split", {"$x^{$": {0: {1: 0.1}}, "_hidden": {0: {1: 0.2}}}),
        Panel("far", {"test": {0: {1: 0.1, 10**7: 0.2}}}, 5e6),
        Panel("zero", {"test": {0: {0: 0.1, 1: 0.2}}}),
    ],
    ids=lambda odd: odd.title[:6],
)
def test_odd_panels_are_drawn_without_a_warning(odd):
    assert size(curves_png([odd, panel()], "50%_$acc", "t"))[0] == 1350


def test_a_figure_may_show_what_falls_where_the_leading_metric_rises():
    assert drawn_metric("neg_mse", {"mse", "loss"}) == "mse"
    assert drawn_metric("neg_loss", {"loss"}) == "loss"


def test_every_split_has_a_line_in_the_legend():
    """For matplotlib before 3.10, a label that begins with "_" is none."""
    values = {0: {1: 0.1}}
    drawn = [curves_png([Panel("p", {split: values})], "top1", "t") for split in ("_a", "_b")]
    assert drawn[0] != drawn[1]


def test_a_value_a_title_or_a_metric_that_differs_gives_another_image():
    drawn = [
        curves_png([panel()], "top1", "t"),
        curves_png([panel(seeds=3)], "top1", "t"),
        curves_png([panel(reported=2.0)], "top1", "t"),
        curves_png([panel(reported=3.0)], "top1", "t"),
        curves_png([panel("other")], "top1", "t"),
        curves_png([panel()], "top5", "t"),
        curves_png([panel()], "top1", "u"),
    ]
    assert len(set(drawn)) == len(drawn)


def test_a_figure_is_drawn_again_only_where_its_numbers_changed_or_it_is_not_whole(tmp_path):
    path = tmp_path / "x.png"
    assert write_curves(path, [panel()], "top1", "t")
    first = path.read_bytes()
    assert not write_curves(path, [panel()], "top1", "t")
    assert write_curves(path, [panel(seeds=3)], "top1", "t")
    assert write_curves(path, [panel()], "top1", "t")
    for damaged in (first[:-20], first + b"?", b"not an image"):
        path.write_bytes(damaged)
        assert write_curves(path, [panel()], "top1", "t")
        assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


# --- in a report ----------------------------------------------------------------------------------


def climb(config, run):
    """Trains nothing: logs a curve that its configuration names."""
    for epoch in range(1, config["epochs"] + 1 - run.seed):
        value = config["height"] * epoch / 10 + run.seed / 100
        if config["splits"]:
            run.log(epoch, "train", loss=1 - value, top1=value)
            run.log(epoch, "val", loss=2 - value, top1=value / 2)
    if config["reported"]:
        run.report_epoch(config["reported"])
    return {"epa_top1": value, "top1": value}


def climbing(**baseline):
    return Study(
        "climb",
        train=climb,
        baseline={"height": 0.5, "epochs": 4, "splits": True, "reported": 2, **baseline},
        variants=[
            Variant("low", height=0.3, allow_different=["steps", "batch_order"]),
            Variant("same", against="low", height=0.5),
            Variant("long", epochs=6),
        ],
        metrics=["epa_top1", "top1"],
        quick=Mode(seeds=2),
    )


def picture_of(figures, heading):
    return next((p for p in figures.pictures["climb"] if p.heading == heading), None)


def test_a_report_shows_the_curves_of_each_model_once(tmp_path):
    study = result_of(climbing())
    figures = draw_studies([study], tmp_path)
    curves = picture_of(figures, "Curves")
    assert figures.warnings == ()
    assert (tmp_path / curves.file).is_file()
    assert curves.file == "figures/climb-curves.png"
    assert curves.alt == "top1 against epoch (training, validation) of baseline, low, long"
    assert "the band spans the lowest and the highest seed" in curves.caption
    assert "reported epoch" in curves.caption
    facts = SessionFacts("quick", 6, 6, 0, (), figures.pictures)
    shown = section(markdown([study], facts), "### Curves")
    assert "](figures/climb-curves.png)" in shown
    assert "### Curves" not in report_of(study)


def test_the_panels_hold_the_logged_values():
    panels = study_panels(result_of(climbing()), "top1")
    low = next(panel for panel in panels if panel.title == "low")
    assert low.reported_epoch == 2
    expected = {seed: {e: 0.3 * e / 10 + seed / 100 for e in range(1, 5 - seed)} for seed in (0, 1)}
    for seed, by_epoch in expected.items():
        assert low.values["train"][seed] == pytest.approx(by_epoch)
        assert low.values["validation"][seed] == pytest.approx(
            {e: v / 2 for e, v in by_epoch.items()}
        )


def test_without_a_history_there_are_no_curves(tmp_path):
    figures = draw_studies([result_of(climbing(splits=False))], tmp_path)
    assert picture_of(figures, "Curves") is None
    assert not (tmp_path / "figures" / "climb-curves.png").exists()


def test_a_figure_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "figures").write_text("a file where a folder should be")
    figures = draw_studies([result_of(climbing())], tmp_path)
    assert figures.pictures == {}
    changes, curves = figures.warnings
    assert changes.startswith("the changes of climb could not be drawn")
    assert "summary.csv" in changes
    assert curves.startswith("the curves of climb could not be drawn")
    assert "history.csv" in curves


def test_a_session_draws_what_is_new_and_leaves_all_other_figures(project):
    project.write_study('Variant("slow", learning_rate=0.05)')
    project.write_conftest(
        "import sys\n\ndef pytest_unconfigure():\n    print('DRAWN', 'matplotlib' in sys.modules)\n"
    )
    old = project.path / "reports" / "quick" / "figures" / "older-curves.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of a study of long ago")
    first = project.run("-m", "quick", "-W", "error")
    assert first.ret == 0
    assert "DRAWN True" in first.outlines
    drawn = contents(old.parent)
    assert set(drawn) == {"older-curves.png", "softmax-changes.png", "softmax-curves.png"}
    shown = section(project.report(), "### Curves")
    assert "![loss against epoch (training) of baseline, slow](figures/softmax-curves.png)" in shown
    assert "](figures/softmax-changes.png)" in section(project.report(), "### Changes")
    again = project.run("-m", "quick", new_interpreter=True)
    assert again.ret == 0
    assert "DRAWN False" in again.outlines, "nothing is drawn, matplotlib is not imported"
    assert contents(old.parent) == drawn
    assert old.read_bytes() == b"of a study of long ago"


def contents(folder):
    """File name to bytes and time of writing."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_a_session_without_a_working_matplotlib_still_has_its_report(project):
    project.write_study('Variant("slow", learning_rate=0.05)', more="cost_figure=True,")
    (project.path / "matplotlib.py").write_text('raise RuntimeError("no fonts at all")\n')
    assert project.run("-m", "quick", new_interpreter=True).ret == 0
    warnings = section(project.report(), "## Warnings")
    for name in ("changes", "costs", "curves"):
        assert f"the {name} of softmax could not be drawn (RuntimeError: no fonts" in warnings
    assert "![" not in project.report()
    assert len(project.rows("summary")) == 4
