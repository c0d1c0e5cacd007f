"""``--ablation-plan``: what a session would train and reuse, and how long that may take."""

import dataclasses
import itertools
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import planned, trained
from projects import set_environment, trained_project
from softmax import BASELINE, train

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.forecast import forecast, makespan
from pytest_ablation.kept_grids import plan_with_kept_grids
from pytest_ablation.options import Options
from pytest_ablation.plan_text import duration, plan_lines
from pytest_ablation.planning import Planner
from pytest_ablation.record_files import files_of
from pytest_ablation.store import Store
from pytest_ablation.study import CaseSpec
from pytest_ablation.training import name_of

# --- how long ----------------------------------------------------------------------------------


@given(
    seconds=st.lists(st.integers(1, 9).map(float), max_size=6),
    processes=st.integers(1, 3),
)
def test_the_time_of_several_processes_is_near_the_shortest_that_is_possible(seconds, processes):
    ways = itertools.product(range(processes), repeat=len(seconds))
    shortest = min(
        max(sum(s for s, p in zip(seconds, way, strict=True) if p == process)
            for process in range(processes))
        for way in ways
    )  # fmt: skip
    bound = 4 / 3 - 1 / (3 * processes)  # Graham 1969, for the longest first
    assert shortest <= makespan(seconds, processes) <= bound * shortest + 1e-9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (200, "3 min 20 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"), (86399, "1 d 0 h"), (273600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_times_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


# --- what is counted ---------------------------------------------------------------------------

STUDY = Study(
    "softmax", train=train, baseline=BASELINE, metrics=["top1"],
    variants=[
        Variant("a", momentum=0.5), Variant("same", momentum=0.5), Variant("b", use_bias=False),
    ],
    quick=Mode(seeds=3, epochs=2), full=Mode(seeds=2, epochs=4), sensitivity="learning_rate",
)  # fmt: skip


@pytest.fixture
def store(tmp_path):
    kept = Store(tmp_path / "store")
    kept.prepare()
    return kept


def keep(store, spec, seconds):
    record = trained(spec)
    origin = {"label": spec.label, "train": name_of(train), "code": spec.code,
              "budget": dict(spec.mode.budget)}  # fmt: skip
    cost = dataclasses.replace(record.cost, train_seconds=seconds)
    record = dataclasses.replace(record, cost=cost, origin=origin)
    store.put(record.key, files_of(record))


def shown(store, *studies, mode="quick", workers=0, **given):
    """The forecast for all cases of these studies, and its text."""
    options = Options(Path("reports"), store.root, device="cpu", **given)
    cases = [
        (f"test.py::{study.name}[{variant.name}]", CaseSpec(study, variant.name, mode))
        for study in studies for variant in study.variants
    ]  # fmt: skip
    plan, specs = plan_with_kept_grids(Planner.of(options, "session"), cases, store)
    found = forecast(plan, specs, options, workers)
    lines = plan_lines(found, options, workers)
    assert max(map(len, lines)) <= 80
    return found, "\n".join(lines)


def specs_of(row, mode="quick"):
    specs = planned(STUDY, mode=mode)[1].values()
    return [spec for spec in specs if spec.label == f"softmax {row}"]


def test_an_empty_store_has_nothing_to_estimate_from(tmp_path):
    found, text = shown(Store(tmp_path / "none"), STUDY)
    assert text.splitlines()[:3] == [
        "softmax (quick)",
        "  4 rows x 3 seeds: 9 runs, 9 to train; rows of one model share its runs",
        "  time: no earlier records to estimate from",
    ]
    assert "In all 9 runs, 9 to train." in text
    assert found.all.unknown == 9
    assert not (tmp_path / "none").exists()


def test_kept_runs_are_reused_and_others_are_estimated_from_them(store):
    for spec, seconds in zip(specs_of("a"), (10.0, 20.0), strict=False):
        keep(store, spec, seconds)
    found, text = shown(store, STUDY, jobs=3)
    assert (found.all.kept, found.all.to_train, found.all.unknown) == (2, 7, 0)
    assert found.all.seconds == pytest.approx(7 * 15.0)  # their configuration is the nearest
    assert "9 runs, 7 to train, 2 kept" in text
    assert "about 1 min 45 s in one process" in text
    # Seven equal runs in three processes are three rounds.
    assert "About 1 min 45 s in one process, 45 s in 3 processes (--ablation-jobs=3)." in text
    _, text = shown(store, STUDY, jobs=2, workers=2)
    assert "30 s in 4 processes (-n 2 --ablation-jobs=2)" in text
    _, text = shown(store, STUDY, jobs=1)
    assert text.splitlines()[-1] == "About 1 min 45 s in one process."


def test_what_no_record_is_like_is_said_beside_the_estimate(store):
    other = Study(
        "other", train=lambda config, run: train(config, run), baseline=BASELINE,
        metrics=["top1"], variants=[Variant("a", momentum=0.5)], quick=Mode(seeds=3, epochs=2),
    )  # fmt: skip
    for spec in specs_of("a"):
        keep(store, spec, 20.0)
    _, text = shown(store, STUDY, other, jobs=1)
    assert "About 2 min 00 s in one process" not in text
    assert "At least 2 min 00 s in one process, and 6 runs with no earlier records" in text


@pytest.mark.parametrize("fresh", [False, True])
def test_a_kept_study_trains_nothing_unless_it_is_to_be_fresh(store, fresh):
    for row in ("baseline", "a", "b"):
        for spec in specs_of(row):
            keep(store, spec, 1.0)
    _, text = shown(store, STUDY, fresh=fresh)
    expected = "9 runs, 9 to train" if fresh else "9 runs, 0 to train, 9 kept"
    assert f"In all {expected}." in text
    assert ("nothing to train" in text) == (not fresh)


def test_where_models_are_wanted_a_record_without_one_is_not_enough(store):
    for spec in specs_of("a"):
        keep(store, spec, 1.0)
    assert "9 runs, 9 to train" in shown(store, STUDY, save_models=True)[1]


def test_a_damaged_record_counts_as_to_be_trained_and_stays(store):
    (first, *_) = specs_of("a")
    keep(store, first, 1.0)
    path = store.runs / first.key / "record.json"
    path.write_text(path.read_text()[:-9])
    assert "9 runs, 9 to train" in shown(store, STUDY)[1]
    assert path.exists()


def test_a_run_with_a_checkpoint_goes_on_from_it(store):
    for spec in specs_of("b")[:2]:
        (store.root / "checkpoints" / spec.key).mkdir(parents=True)
    assert "9 runs, 9 to train (2 from a checkpoint)" in shown(store, STUDY)[1]


def test_probes_are_counted_apart(store):
    found, text = shown(store, STUDY, mode="full")
    assert "  4 rows x 2 seeds: 6 runs, 6 to train" in text
    (study,) = found.studies
    assert study.probes.count == 6  # two factors for each of three models
    assert "  probes of learning_rate: 6 runs, 6 to train" in text
    assert "In all 12 runs, 12 to train." in text


def test_a_probe_that_is_a_row_too_counts_as_that(store):
    study = Study(
        "rates", train=train, baseline=BASELINE, metrics=["top1"], sensitivity="learning_rate",
        variants=[Variant("triple", learning_rate=BASELINE["learning_rate"] * 3)],
        full=Mode(seeds=2, epochs=4),
    )  # fmt: skip
    plan, _ = planned(study, mode="full")
    (rates,), of_rows = plan.studies, {k for row in plan.studies[0].rows for k in row.keys.values()}
    probes = {key for row in rates.rows for key in row.probes.values()}
    assert probes & of_rows
    found, _ = shown(store, study, mode="full")
    assert found.studies[0].probes.count == len(probes - of_rows)
    assert found.all.count == len(probes | of_rows)


@pytest.mark.parametrize("given", [{"auto_seeds": True}, {"gate": ""}])
def test_seeds_that_a_verdict_or_a_gate_may_ask_for_are_counted_apart(store, given):
    found, text = shown(store, STUDY, max_seeds=5, **given)
    assert found.all.count == 9
    assert "needs more seeds: up to 6 more" in text  # two for each of three models


def test_runs_that_two_studies_need_count_once_in_all(store):
    twin = Study(
        "twin", train=train, baseline=BASELINE, metrics=["top1"],
        variants=[Variant("a", momentum=0.5)], quick=Mode(seeds=3, epochs=2),
    )  # fmt: skip
    _, text = shown(store, STUDY, twin)
    assert "In all 9 runs, 9 to train." in text
    assert "Runs that several studies need count once here." in text


GRID = Study.grid(
    "grid", train=train, baseline=BASELINE, metrics=["validation_top1"],
    axes={"momentum": [0.0, 0.5]}, quick=Mode(seeds=3, epochs=2), select="validation_top1",
)  # fmt: skip
AFTER = Study(
    "after", train=train, baseline=BASELINE, metrics=["top1"],
    variants=[Variant("x", use_bias=False)],
    quick=Mode(seeds=3, epochs=2, config=GRID.best()),
)  # fmt: skip


def test_the_rows_after_a_grid_are_not_known_before_all_of_it_is_there(store):
    of_grid = list(planned(AFTER)[1].values())
    assert len(of_grid) == 6
    for spec in of_grid[1:]:
        keep(store, spec, 1.0)
    _, text = shown(store, AFTER)
    assert text.splitlines()[1:3] == [
        "  2 cells x 3 seeds of its grid: 6 runs, 1 to train, 5 kept",
        "  then 2 rows x 3 seeds, not known before the best cell is: up to 6 more",
    ]
    keep(store, of_grid[0], 1.0)
    _, text = shown(store, AFTER)  # one of the two rows is the best cell itself
    expected = "  2 cells x 3 seeds of its grid, then 2 rows x 3 seeds: 9 runs, 3 to train, 6 kept"
    assert text.splitlines()[1:3] == textwrap.wrap(expected, 80, subsequent_indent="    ")


def test_probes_and_seeds_of_rows_that_are_not_known_yet_are_counted_with_these(store):
    grid = Study.grid(
        "grid", train=train, baseline=BASELINE, metrics=["validation_top1"],
        axes={"momentum": [0.0, 0.5]}, full=Mode(seeds=3, epochs=2), select="validation_top1",
    )  # fmt: skip
    after = Study(
        "after", train=train, baseline=BASELINE, metrics=["top1"], sensitivity="learning_rate",
        variants=[Variant("x", use_bias=False)],
        full=Mode(seeds=3, epochs=2, config=grid.best()),
    )  # fmt: skip
    _, text = shown(store, after, mode="full", auto_seeds=True, max_seeds=5)
    assert text.splitlines()[2:5] == [
        "  then 2 rows x 3 seeds and 4 probes, not known before the best cell is: up to",
        "    10 more",
        "  where a verdict or the gate needs more seeds: up to 4 more",
    ]


def test_a_study_that_cannot_run_says_why(store):
    def data(config, folder):
        raise FileNotFoundError("no corpus here: " + "x" * 100)

    study = Study(
        "without", train=train, baseline=BASELINE, metrics=["top1"], data=data,
        variants=[Variant("a", use_bias=False)], quick=Mode(seeds=3, epochs=2),
    )  # fmt: skip
    assert "  cannot run: FileNotFoundError: no corpus here:" in shown(store, study)[1]


def test_how_long_a_cluster_takes_is_not_guessed(store):
    for spec in specs_of("a"):
        keep(store, spec, 1.0)
    _, text = shown(store, STUDY, executor="ray")
    assert "processes" not in text
    assert "How long a cluster takes (--ablation-executor=ray) hangs on" in text


# --- sessions ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    return trained_project(tmp_path_factory.mktemp("plan"), 'Variant("a", use_bias=False)')


@pytest.fixture
def after_a_session(trained_once, monkeypatch):
    set_environment(monkeypatch)
    return trained_once


def files(project):
    return {path: path.read_bytes() for path in project.path.rglob("*")
            if path.is_file() and not {"__pycache__", ".pytest_cache"} & set(path.parts)
            }  # fmt: skip


def section(result):
    """The lines of the plan, which stand at the end but for pytest's last line."""
    lines = result.stdout.lines
    (start,) = [n for n, line in enumerate(lines) if "ablation plan" in line]
    assert max(map(len, lines[start:])) <= 80
    return lines[start + 1 : -1]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], ["In all 6 runs, 0 to train, 6 kept."]),
        (["--ablation-seeds=4", "-n", "3"], ["In all 8 runs, 2 to train, 6 kept."]),
        (["--ablation-executor=ray", "--ablation-fresh"], ["In all 6 runs, 6 to train."]),
    ],
    ids=["kept", "more seeds", "ray"],
)
def test_a_plan_trains_nothing_and_leaves_nothing(after_a_session, more, expected):
    before = files(after_a_session)
    result = after_a_session.run("-m", "quick", "--ablation-plan", *more, jobs=None)
    assert result.ret == 0
    assert files(after_a_session) == before
    text = section(result)
    assert [line for line in text if line.startswith("In all")] == expected
    assert not any("nodes" in line or "workers" in line for line in result.stdout.lines)
    if "-n" in more:
        assert " in 3 processes (-n 3)." in text[-1]


def test_the_seconds_are_those_of_the_records(after_a_session):
    took = [content["record"]["cost"]["train_seconds"]
            for content in after_a_session.records().values()]  # fmt: skip
    result = after_a_session.run("-m", "full", "--ablation-plan")
    expected = 2 * sum(took) / 6 * 8  # twice the epochs; four seeds of two models
    assert f"About {duration(expected)} in one process." in section(result)


def test_nothing_is_made_where_nothing_was(project):
    project.write_study('Variant("a", use_bias=False)')
    before = files(project)
    result = project.run("--ablation-plan")
    assert result.ret == 0
    assert "6 runs, 6 to train" in "\n".join(section(result))
    assert files(project) == before
    assert not (project.path / ".ablation").exists()


def test_where_no_case_is_selected_the_plan_says_so(project):
    (project.path / "test_other.py").write_text("def test_other(): raise RuntimeError\n")
    result = project.run("--ablation-plan")
    assert result.ret == 0  # it was collected
    assert section(result) == ["No ablation case was selected: nothing would be trained."]
    result = project.run("--ablation-plan", "-k", "nothing")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_module_that_cannot_be_collected_is_an_error_of_the_plan_too(project):
    project.write_study('Variant("a", use_bias=False)')
    (project.path / "test_broken.py").write_text("import no_such_module\n")
    result = project.run("--ablation-plan")
    assert result.ret != 0
    assert "6 runs, 6 to train" in str(result.stdout)
    assert "no_such_module" in str(result.stdout)
