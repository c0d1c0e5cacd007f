"""The numbers behind a grid's report: order, means along an axis and differences, derived anew."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from told_studies import of_grid, told_grid

from pytest_ablation.grid_effects import axis_means, levels_of
from pytest_ablation.grid_results import grid_result
from pytest_ablation.grids import choose

CELLS = [(width, rate) for width in (64, 128, 256) for rate in (0.0005, 0.001)]
VALUES = st.lists(
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=3, max_size=3),
    min_size=6, max_size=6,
)  # fmt: skip


@given(VALUES)
@settings(max_examples=25)
def test_means_and_differences_along_an_axis_are_those_of_a_pivot_table(listed):
    values = dict(zip(CELLS, listed, strict=True))
    result = grid_result(of_grid(told_grid(values)))
    frame = pd.DataFrame(
        [{"seed": seed, "width": w, "rate": r, "y": y}
         for (w, r), by_seed in values.items() for seed, y in enumerate(by_seed)]
    )  # fmt: skip
    for axis, name in enumerate(("width", "rate")):
        table = frame.pivot_table(index="seed", columns=name, values="y", aggfunc="mean")
        by_place = axis_means(result, axis).by_place
        assert [list(of.values()) for of in by_place.values()] == [
            pytest.approx(list(table[column])) for column in table
        ]
        levels = levels_of(result, axis, {at: of for (at,), of in by_place.items()})
        assert levels.mean(levels.best) == pytest.approx(table.mean().max())
        change = table.iloc[:, -1] - table.iloc[:, 0]
        assume(change.std() > 1e-6)
        found = levels.difference(levels.order[-1], levels.order[0])
        low, high = stats.ttest_1samp(change, 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@given(VALUES)
@settings(max_examples=25)
def test_the_best_cell_is_the_one_that_a_study_on_it_would_have(listed):
    values = dict(zip(CELLS, listed, strict=True))
    defined = told_grid(values)
    result = grid_result(of_grid(defined))
    by_name = {
        name: dict(enumerate(by_seed))
        for name, by_seed in zip(defined.case_rows, values.values(), strict=True)
    }
    choice = choose("sizes", defined.design, defined.select, by_name)
    assert (result.best.name, result.ranked[1].name) == (choice.cell, choice.second)
    assert result.ranked[1].behind.by_seed == choice.lead.by_seed


@given(st.sets(st.sampled_from(CELLS), max_size=4))
@settings(max_examples=25)
def test_means_are_over_the_same_values_of_the_others_where_cells_are_missing(lost):
    values = {cell: [n / 10, n / 20] for n, cell in enumerate(CELLS)}
    result = grid_result(of_grid(told_grid(values, diverge=lost)))
    kept = [cell for cell in CELLS if cell not in lost]
    for axis in (0, 1):
        places = sorted({cell[axis] for cell in kept})
        rests = {cell[1 - axis] for cell in kept}
        whole = [
            rest for rest in sorted(rests)
            if all((p, rest)[:: 1 - 2 * axis] in kept for p in places)
        ]  # fmt: skip
        found = axis_means(result, axis)
        assert found.averaged == len(whole)
        assert len(found.by_place) == (len(places) if whole else 0)
        for place, by_seed in zip(places, found.by_place.values(), strict=False):
            cells = [(place, rest)[:: 1 - 2 * axis] for rest in whole]
            assert by_seed[1] == pytest.approx(np.mean([values[cell][1] for cell in cells]))
