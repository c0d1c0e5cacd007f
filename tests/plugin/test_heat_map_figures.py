"""Which run's heat maps a report shows, what it draws of them, and what it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import result_of
from sample_heat_maps import VALUES, make_maps, texts_in

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.heat_map_drawing import all_png, one_png
from pytest_ablation.heat_map_figures import draw_heat_maps, findings_of, shown_run

DEFAULTS = {"fails": None, "silent": None, "panels": 2, "level": 0}


def maps_of(config, seed):
    values = VALUES[: config["panels"]] + 10 * config["level"] + seed
    return make_maps(values, findings=[f"level {config['level']}"])


def tells(config, run):
    """Its validation metric is ``scores[seed]``; ``fails`` and ``silent`` are seeds."""
    if run.seed == config["fails"]:
        raise RuntimeError("no")
    run.save_weights({"w": np.array([config["level"], run.seed])})
    if run.seed != config["silent"]:
        run.heat_maps("attention", maps_of(config, run.seed))
    value = config["scores"][run.seed]
    return {"top1": 0.5, "validation_top1": value}


def study_of(rows, select="validation_top1", **changes):
    """A study whose rows are configurations of :func:`tells`: the baseline first."""
    settings_ = [{**DEFAULTS, **row, "level": n} for n, row in enumerate(rows)]
    baseline, *others = settings_
    study = Study(
        "levels", train=tells, baseline=baseline, metrics=["top1", "validation_top1"],
        variants=[Variant(f"v{n}", **other) for n, other in enumerate(others, start=1)],
        quick=Mode(seeds=len(baseline["scores"])), select=select, **changes,
    )  # fmt: skip
    return result_of(study)


def place(study):
    shown = shown_run(study)
    return None if shown is None else (shown.row, shown.record.seed)


@settings(max_examples=12)
@given(
    st.lists(
        st.lists(st.sampled_from([0.25, 0.5, 0.75]), min_size=2, max_size=2),
        min_size=2, max_size=4,
    )
)  # fmt: skip
def test_it_is_the_best_seed_of_the_row_with_the_best_mean(scores):
    names = ["baseline", *(f"v{n}" for n in range(1, len(scores)))]
    best = None
    for name, row in zip(names, scores, strict=True):
        if best is None or sum(row) > sum(best[1]):
            best = name, row
    seed = 1 if best[1][1] > best[1][0] else 0
    assert place(study_of([{"scores": row} for row in scores])) == (best[0], seed)


def test_a_single_good_seed_does_not_make_a_row_the_best():
    assert place(study_of([{"scores": [0.6, 0.6]}, {"scores": [0.9, 0.1]}])) == ("baseline", 0)


def test_rows_with_trouble_and_runs_that_told_nothing_are_passed_over():
    low, high = {"scores": [0.1, 0.2]}, {"scores": [0.8, 0.9]}
    assert place(study_of([low, {**high, "fails": 1}])) == ("baseline", 1)
    assert place(study_of([low, {**high, "silent": 1}])) == ("v1", 0)
    silent = study_of([{**low, "scores": [0.1], "silent": 0}, {"scores": [0.9], "silent": 0}])
    assert (place(silent), findings_of(silent)) == (None, ())


def test_a_study_that_selects_by_nothing_shows_nothing(tmp_path):
    study = study_of([{"scores": [0.1]}, {"scores": [0.2]}], select="")
    assert (place(study), findings_of(study)) == (None, ())
    assert draw_heat_maps(study, pytest.fail, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_the_findings_are_those_of_the_run_and_say_which_it_is():
    study = study_of([{"scores": [0.1, 0.2]}, {"scores": [0.25, 0.75]}])
    assert findings_of(study) == (
        "Attention of v1, seed 1: the best seed (validation_top1 0.7500) of the row with the "
        "highest mean.",
        "level 1",
    )


def test_the_run_s_maps_are_drawn_once_and_loaded_by_its_key(tmp_path):
    study = study_of([{"scores": [0.1, 0.2]}, {"scores": [0.25, 0.75]}])
    loaded = []

    def load(key):
        record = study.runs[key].record
        loaded.append((record.config["level"], record.seed))
        return {"attention": maps_of(record.config, record.seed)}

    pictures = draw_heat_maps(study, load, tmp_path)
    assert [picture.file for picture in pictures] == [
        "figures/levels-attention.png", "figures/levels-attention-all.png"
    ]  # fmt: skip
    assert set(loaded) == {(1, 1)}
    maps, title = maps_of({**DEFAULTS, "level": 1}, 1), "levels (quick): Attention of v1, seed 1"
    one, every = ((tmp_path / picture.file).read_bytes() for picture in pictures)
    assert one == one_png(maps, title, 0, texts_in(one)[0]["Digest"])
    assert every == all_png(maps, title, texts_in(every)[0]["Digest"])
    for picture in pictures:
        assert "v1, seed 1" in picture.alt
        assert "Attention" in picture.heading
    assert "Layer 1, head 1, of v1, seed 1 (the best by validation_top1)" in pictures[0].caption
    assert pictures[0].caption.endswith("How to read it.")
    assert draw_heat_maps(study, pytest.fail, tmp_path) == pictures, "and are not drawn again"


def test_one_panel_is_drawn_large_alone(tmp_path):
    study = study_of([{"scores": [0.1]}, {"scores": [0.2], "panels": 1}])
    maps = maps_of({**DEFAULTS, "level": 1, "panels": 1}, 0)
    (picture,) = draw_heat_maps(study, lambda _: {"attention": maps}, tmp_path)
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["levels-attention.png"]
    assert picture.file == "figures/levels-attention.png"
