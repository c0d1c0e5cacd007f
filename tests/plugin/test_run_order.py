"""The order in which runs and cases are tried: long ones first, and nobody waits who can train."""

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import planned
from projects import Project, set_environment
from records_by_hand import rewrite
from softmax import BASELINE, train

from pytest_ablation import Mode, Study, Variant
from pytest_ablation.plan import RunSpec
from pytest_ablation.run_order import Expected, agreed, longest_first, seconds_of_cases

SECONDS = st.one_of(st.none(), st.integers(1, 5).map(float))


@given(lengths=st.lists(SECONDS, max_size=9))
def test_long_runs_come_first_and_equal_ones_keep_their_order(lengths):
    specs = [
        RunSpec(str(number), 0, "quick", Mode(seeds=1), {}, print, "study row")
        for number in range(len(lengths))
    ]
    known = [length for length in lengths if length is not None]
    average = sum(known) / len(known) if known else 0.0
    taken = [average if length is None else length for length in lengths]
    expected = sorted(range(len(lengths)), key=lambda number: (-taken[number], number))
    found = longest_first(specs, dict(zip(map(str, range(len(lengths))), lengths, strict=True)))
    assert [int(spec.key) for spec in found] == expected


def test_all_workers_take_what_the_first_one_decided(tmp_path):
    decided, found = [], []
    start = threading.Barrier(8)

    def work(number):
        def decide():
            decided.append(number)
            return Expected({"a": float(number), "b": None}, ["a", "b"])

        start.wait()
        found.append(agreed(tmp_path / "sessions" / "expected.json", decide))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (number,) = decided
    assert found == [Expected({"a": float(number), "b": None}, ["a", "b"])] * 8


def test_where_no_file_can_be_kept_nobody_decides(tmp_path):
    (tmp_path / "file").write_text("")
    assert agreed(tmp_path / "file" / "expected.json", lambda: Expected({}, [])) is None


def seconds_of(study, known, *, untrained=None, mode="quick"):
    """By row, where *known* has the seconds of the runs of each row, None for unknown ones."""
    plan, specs = planned(study, mode=mode)
    seconds = {key: known.get(spec.label.split(" ")[1]) for key, spec in specs.items()}
    found = seconds_of_cases(
        plan, Expected(seconds, list(specs if untrained is None else untrained))
    )
    return {plan.cases[node][2]: value for node, value in found.items()}


STUDY = Study(
    "softmax", train=train, baseline=BASELINE, metrics=["top1"], quick=Mode(seeds=3, epochs=2),
    variants=[Variant("a", momentum=0.5), Variant("b", use_bias=False)],
)  # fmt: skip


def test_a_case_counts_with_its_own_runs_that_are_not_trained():
    assert seconds_of(STUDY, {"a": 2.0, "b": 3.0, "baseline": 9.0}) == {"a": 6.0, "b": 9.0}
    assert seconds_of(STUDY, {"a": 2.0, "b": 3.0}, untrained=[]) == {}
    (key,) = [k for k, s in planned(STUDY)[1].items() if s.label == "softmax b" and s.seed == 1]
    assert seconds_of(STUDY, {"a": 2.0, "b": 3.0}, untrained=[key]) == {"a": 0.0, "b": 3.0}


def test_runs_of_unknown_length_count_as_average_ones():
    assert seconds_of(STUDY, {"a": 1.0, "baseline": 3.0}) == {"a": 3.0, "b": 6.0}
    assert seconds_of(STUDY, {}) == {}


def test_a_case_that_hangs_on_a_grids_best_cell_counts_with_the_grid():
    grid = Study.grid(
        "grid", train=train, baseline=BASELINE, metrics=["validation_top1"],
        axes={"momentum": [0.0, 0.5]}, quick=Mode(seeds=3, epochs=2), select="validation_top1",
    )  # fmt: skip
    study = Study(
        "softmax", train=train, baseline=BASELINE, metrics=["top1"],
        variants=[Variant("a", use_bias=False)],
        quick=Mode(seeds=3, epochs=2, config=grid.best()),
    )  # fmt: skip
    plan, specs = planned(study)
    expected = Expected(dict.fromkeys(specs, 2.0), list(specs))
    assert list(seconds_of_cases(plan, expected).values()) == [12.0]  # two cells, three seeds


#: Each run writes when it begins.
TRAIN = """
import os, softmax

def train(config, run):
    with open("begun.txt", "a") as file:
        file.write(f"{config['unused']} {run.seed} {os.getpid()}\\n")
    return softmax.train(config, run)
"""
#: Seconds that a run of the variant "sN" is said to have taken.
LENGTHS = (2, 9, 4, 7)
VARIANTS = ", ".join(f'Variant("s{n}", unused={n}, use_bias=False)' for n in LENGTHS)
CONFTEST = """
import json

def pytest_xdist_node_collection_finished(node, ids):
    with open(f"collected-{node.gateway.id}.json", "w") as file:
        json.dump(ids, file)
"""


@pytest.fixture(scope="module")
def first_session(tmp_path_factory):
    """A project whose runs of seed 0 were trained by a pool of two, and say how long they took."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch)
        project = Project(tmp_path_factory.mktemp("first"))
        (project.path / "timed.py").write_text(TRAIN)
        project.write_conftest(CONFTEST)
        project.write_study(VARIANTS)
        study = project.path / "test_softmax.py"
        text = study.read_text().replace("BASELINE, train", "BASELINE\nfrom timed import train")
        text = text.replace("seeds=3, epochs=2", "seeds=1, epochs=2")
        text = text.replace("@study.cases", "def test_first(): pass\n\n@study.cases")
        study.write_text(text + "\ndef test_last(): pass\n")
        project.run("-m", "quick", jobs=2).assert_outcomes(passed=4, deselected=6)
    for file in (project.path / ".ablation" / "runs").glob("*/record.json"):
        rewrite(file, say_how_long)
    return project


def say_how_long(content):
    record = content["record"]
    record["cost"]["train_seconds"] = 1.0 + record["config"]["unused"]


@pytest.fixture
def timed(project, first_session):
    """A copy of it; a function that says which runs of other seeds began, in order."""
    project.copy(first_session)
    before = len(begun(project))
    return project, lambda: begun(project)[before:]


def begun(project):
    lines = (project.path / "begun.txt").read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]


def lengths_by_process(runs):
    """What each process began, in order: two may begin what they took at once in either order."""
    return [[length for length, _, one in runs if one == process]
            for process in {process for _, _, process in runs}]  # fmt: skip


def test_where_nothing_is_known_the_first_case_comes_first(first_session):
    order = [LENGTHS[0], 0, *LENGTHS[1:]]  # its variant, its baseline
    for lengths in lengths_by_process(begun(first_session)):
        assert lengths == [length for length in order if length in lengths]


def test_the_pool_begins_with_the_longest_runs(timed):
    project, others = timed
    project.run("-m", "quick", "--ablation-seeds=3", jobs=2).assert_outcomes(passed=4, deselected=6)
    assert len(others()) == 2 * (len(LENGTHS) + 1)
    for lengths in lengths_by_process(others()):
        assert lengths == sorted(lengths, reverse=True)


def collected(project):
    found = [json.loads(file.read_text()) for file in project.path.glob("collected-*.json")]
    return [[node.partition("::")[2] for node in ids] for ids in found]


def cases(*lengths):
    return [f"test_softmax[s{length}-quick]" for length in lengths]


def test_under_xdist_long_cases_take_the_first_places_of_cases(timed):
    project, others = timed
    result = project.run("-n", "2", "--ablation-seeds=2", jobs=None)
    result.assert_outcomes(passed=6)
    expected = ["test_first", *cases(9, 7, 4, 2), "test_last"]
    assert collected(project) == [expected] * 2
    assert sorted(run[:2] for run in others()) == [(length, 1) for length in sorted([*LENGTHS, 0])]
    assert not list((project.path / ".ablation" / "sessions").iterdir())


def test_a_replaced_worker_has_the_same_order(timed):
    project, _ = timed
    code = project.path / "timed.py"
    deadly = "    if config['unused'] == 9 and not os.path.exists('died'):\n" \
             "        open('died', 'w'); os._exit(3)\n    return"  # fmt: skip
    code.write_text(code.read_text().replace("    return", deadly))
    # The code has changed, so that all runs are trained: how long they took is known all the same.
    result = project.run("-m", "quick", "-n", "2", "--ablation-seeds=1", jobs=None)
    result.stdout.fnmatch_lines(["*replacing crashed worker*"])
    assert collected(project) == [cases(9, 7, 4, 2)] * 3


WAITING = """
import pathlib, time, softmax

def train(config, run):
    metrics = softmax.train(config, run)
    limit = time.monotonic() + 300
    while config["unused"] == 0 and len(list(pathlib.Path(".").glob("ended-*"))) < 4:
        if time.monotonic() > limit:
            raise RuntimeError("nobody trains the other runs")
        time.sleep(0.05)
    pathlib.Path(f"ended-{config['unused']}").touch()
    return metrics
"""


def test_who_would_only_wait_for_a_run_trains_those_of_other_cases(project):
    """The training of a baseline ends when all other runs of the session have ended.

    Both cases of its study need it: the worker that does not train it has to train all others.
    """
    (project.path / "timed.py").write_text(WAITING)
    for name, baseline, others in [("a", 0, (1, 2)), ("b", 3, (4,))]:
        variants = [f'Variant("s{n}", unused={n}, use_bias=False)' for n in others]
        project.write_study(", ".join(variants), name=f"test_{name}.py")
        study = project.path / f"test_{name}.py"
        text = study.read_text().replace("BASELINE, train", "BASELINE\nfrom timed import train")
        text = text.replace("=BASELINE", f'={{**BASELINE, "unused": {baseline}}}')
        study.write_text(text.replace("seeds=3", "seeds=1").replace('"softmax"', f'"{name}"'))
    result = project.run("-m", "quick", "-n", "2", jobs=None)  # each gets a case of study a first
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["5 runs: 5 trained, 0 reused"])


def test_a_damaged_record_is_told_though_the_pool_trains_ahead(timed):
    project, _ = timed
    (key,) = [key for key, content in project.records().items()
              if content["record"]["config"]["unused"] == LENGTHS[-1]]  # fmt: skip
    (project.path / ".ablation" / "runs" / key / "history.csv").write_text("")
    result = project.run("-m", "quick", "--ablation-seeds=3", jobs=2)
    result.assert_outcomes(passed=4, deselected=6, warnings=1)
    assert "was changed after it was written" in project.report()
