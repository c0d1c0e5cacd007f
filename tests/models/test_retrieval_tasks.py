"""Candidates, ranks and figures of the retrieval tasks against their definitions, spelled out."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.arguana import OPPOSITE, Argument, Split, load_arguana
from models.biencoder.tasks import (
    BLOCK_ROWS,
    TASKS,
    arguana_tasks,
    figures,
    metric_names,
    ranks,
    reranked_ranks,
    single_task,
    top_allowed,
)
from models.errors import DataError

DEFINITIONS = {
    "sdoc": lambda p, a: same_debate(p, a) and a.is_counter and a.stance != p.stance,
    "sdoa": lambda p, a: same_debate(p, a) and a.stance != p.stance,
    "sdc": lambda p, a: same_debate(p, a) and a.is_counter,
    "sda": lambda p, a: same_debate(p, a),
    "stc": lambda p, a: a.theme == p.theme and a.is_counter,
    "sta": lambda p, a: a.theme == p.theme,
    "epc": lambda p, a: a.is_counter,
    "epa": lambda p, a: True,
}


def same_debate(p, a):
    return (p.theme, p.debate) == (a.theme, a.debate)


@st.composite
def splits(draw):
    """Points of few themes and debates (debates of one name under two themes among them)."""
    arguments, queries, counters = [], [], []
    for number in range(draw(st.integers(1, 8))):
        theme, debate = draw(st.sampled_from("XY")), draw(st.sampled_from("ab"))
        stance = draw(st.sampled_from(["pro", "con"]))
        place = f"{theme}/{debate}/{stance}{number}"
        point = Argument("", theme, debate, stance, False, f"{place}a")
        arguments.append(point)
        if number == 0 or draw(st.booleans()):
            queries.append(len(arguments) - 1)
            counters.append(len(arguments))
            arguments.append(
                dataclasses.replace(
                    point, stance=OPPOSITE[stance], is_counter=True, place=f"{place}b"
                )
            )
    return Split(tuple(arguments), tuple(queries), tuple(counters))


@st.composite
def retrievals(draw):
    """Scores of few values, so that ties are the rule; every own candidate is allowed."""
    queries, candidates = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    dtype = draw(st.sampled_from([np.float32, np.float64, np.int64]))
    elements = st.sampled_from([-3, 0, 1, 7])
    scores = draw(hnp.arrays(dtype, (queries, candidates), elements=elements))
    own = draw(hnp.arrays(np.int64, queries, elements=st.integers(0, candidates - 1)))
    allowed = draw(hnp.arrays(bool, (queries, candidates)))
    allowed[np.arange(queries), own] = True
    return scores, own, allowed


def best_first(scores, allowed):
    """Every query's allowed candidates, by Python's sort: falling score, then index."""
    return [
        sorted(np.flatnonzero(may), key=lambda j: (-row[j], j))
        for row, may in zip(scores.tolist(), allowed, strict=True)
    ]


@given(splits())
def test_candidates_are_those_of_the_definitions(split):
    tasks = arguana_tasks(split)
    assert [task.name for task in tasks] == list(TASKS) == list(DEFINITIONS)
    for task in tasks:
        expected = [
            [a is not split.arguments[q] and DEFINITIONS[task.name](split.arguments[q], a)
             for a in split.arguments] for q in split.queries]  # fmt: skip
        assert task.allowed.tolist() == expected
        assert task.mean_candidates == pytest.approx(np.mean([sum(row) for row in expected]))


@given(splits())
def test_the_own_counter_is_a_candidate_of_every_task(split):
    rows = np.arange(len(split.queries))
    for task in arguana_tasks(split):
        assert task.allowed[rows, list(split.counters)].all()
        assert not task.allowed[rows, list(split.queries)].any()


def test_a_debate_spelled_out(write_arguana, arguana_files):
    """pro01 of the first debate: two pro points, two counters of them, and the other side's."""
    split = load_arguana(write_arguana(arguana_files)).test
    query = next(i for i, q in enumerate(split.queries) if split.arguments[q].stance == "pro")

    def names(task):
        chosen = np.flatnonzero(task.allowed[query])
        return sorted(split.arguments[j].place.split("/")[-1][:6] for j in chosen)

    sdoc, sdoa, sdc, sda = arguana_tasks(split, TASKS[:4])
    assert names(sdoc) == ["pro01b", "pro02b"]
    assert names(sdoa) == ["con01a", "con02a", "pro01b", "pro02b"]
    assert names(sdc) == ["con01b", "con02b", "pro01b", "pro02b"]
    assert names(sda) == [
        *names(sdoa)[:1],
        "con01b",
        "con02a",
        "con02b",
        "pro01b",
        "pro02a",
        "pro02b",
    ]


def test_the_test_split_has_the_candidates_of_the_paper(real_arguana):
    tasks = arguana_tasks(load_arguana(real_arguana).test)
    means = [f"{task.mean_candidates:.1f}" for task in tasks]
    assert means == ["3.9", "7.7", "7.7", "14.3", "136.5", "272.4", "1401.0", "2806.0"]
    sdoc = tasks[0].allowed.sum(axis=1)
    assert (sdoc.min(), sdoc.max()) == (1, 7)


def test_some_tasks_only_come_in_the_usual_order(small_arguana):
    split = load_arguana(small_arguana).test
    whole = {task.name: task.allowed for task in arguana_tasks(split)}
    some = arguana_tasks(split, ["epa", "sdoc"])
    assert [task.name for task in some] == ["sdoc", "epa"]
    assert all((task.allowed == whole[task.name]).all() for task in some)
    with pytest.raises(ValueError, match="no such task: 'sdo'"):
        arguana_tasks(split, ["sdo"])


def test_a_sample_of_the_queries_has_their_rows_of_the_masks(small_arguana):
    split = load_arguana(small_arguana).train
    sample = dataclasses.replace(split, queries=split.queries[::5], counters=split.counters[::5])
    for task, part in zip(arguana_tasks(split), arguana_tasks(sample), strict=True):
        assert (part.allowed == task.allowed[::5]).all()


def test_masks_cannot_be_written_to(small_arguana):
    tasks = (*arguana_tasks(load_arguana(small_arguana).test), single_task(2, 3))
    for task in tasks:
        with pytest.raises(ValueError, match="read-only"):
            task.allowed[0, 0] = False


def test_a_split_without_queries_is_refused(small_arguana):
    split = dataclasses.replace(load_arguana(small_arguana).test, queries=(), counters=())
    with pytest.raises(DataError, match="no queries"):
        arguana_tasks(split)


@given(retrievals())
def test_ranks_are_places_in_the_sorted_candidates(case):
    scores, own, allowed = case
    expected = [
        order.index(o) + 1 for order, o in zip(best_first(scores, allowed), own, strict=True)
    ]
    found = ranks(scores, own, allowed)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(retrievals(), st.integers(1, 11))
def test_the_first_k_are_those_of_the_sorted_candidates(case, k):
    scores, _, allowed = case
    expected = [(order + [-1] * k)[:k] for order in best_first(scores, allowed)]
    found = top_allowed(scores, allowed, k)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(retrievals(), st.integers(1, 11), st.data())
def test_reranked_ranks_are_places_after_sorting_the_first_k_again(case, k, data):
    scores, own, allowed = case
    top = top_allowed(scores, allowed, k)
    elements = st.sampled_from([-1.0, 0.0, 2.5])
    again = data.draw(hnp.arrays(np.float32, top.shape, elements=elements))
    again[top < 0] = data.draw(st.sampled_from([np.nan, np.inf, 99.0]))
    expected = []
    for row, order in enumerate(best_first(scores, allowed)):
        first = sorted(order[:k], key=lambda j: -again[row, order.index(j)])
        expected.append([*first, *order[k:]].index(own[row]) + 1)
    found = reranked_ranks(ranks(scores, own, allowed), top, own, again)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(retrievals())
def test_what_is_not_allowed_and_how_scores_are_scaled_changes_nothing(case):
    scores, own, allowed = case
    other = np.where(allowed, 2.0 * scores + 5, 1e30)
    assert ranks(other, own, allowed).tolist() == ranks(scores, own, allowed).tolist()
    assert top_allowed(other, allowed, 3).tolist() == top_allowed(scores, allowed, 3).tolist()


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(BLOCK_ROWS - 1, 2 * BLOCK_ROWS + 2))
def test_more_queries_than_are_ranked_at_once_are_ranked_alike(seed, queries):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 20, (queries, 30)).astype(np.float32)
    own, allowed = rng.integers(0, 30, queries), rng.random((queries, 30)) < 0.7
    allowed[np.arange(queries), own] = True
    order = np.argsort(np.where(allowed, -scores, np.inf), axis=1, kind="stable")
    assert (ranks(scores, own, allowed) == (order == own[:, None]).argmax(axis=1) + 1).all()
    expected = np.where(np.take_along_axis(allowed, order, axis=1), order, -1)[:, :4]
    assert (top_allowed(scores, allowed, 4) == expected).all()


@given(retrievals(), st.integers(1, 10))
def test_a_rank_within_k_is_a_place_among_the_first_k(case, k):
    scores, own, allowed = case
    inside = (top_allowed(scores, allowed, k) == own[:, None]).any(axis=1)
    assert ((ranks(scores, own, allowed) <= k) == inside).all()


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), min_size=1, max_size=6))
def test_figures_equal_scikit_learns_where_nothing_ties(row, own):
    from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

    scores = np.array([np.roll(row, i) for i in range(len(own))], dtype=float)
    task = single_task(*scores.shape)
    found = figures(ranks(scores, own, task.allowed))
    for k in (1, 5, 10):
        expected = top_k_accuracy_score(own, scores, k=k, labels=np.arange(12))
        assert found[f"top{k}"] == pytest.approx(expected, abs=1e-12)
    relevant = np.eye(12, dtype=int)[own]
    expected = label_ranking_average_precision_score(relevant, scores)
    assert found["mrr"] == pytest.approx(expected, abs=1e-12)


def test_figures_are_plain_floats_that_add_up():
    found = figures([1, 1, 4, 5, 6, 10, 11, 100])
    assert found == pytest.approx(
        {"top1": 2 / 8, "top5": 4 / 8, "top10": 6 / 8,
         "mrr": (1 + 1 + 1 / 4 + 1 / 5 + 1 / 6 + 1 / 10 + 1 / 11 + 1 / 100) / 8}
    )  # fmt: skip
    assert {type(value) for value in found.values()} == {float}


def test_top_k_of_fewer_than_k_candidates_is_right_whatever_the_scores(small_arguana):
    """sdoc has two candidates here: top-5 and top-10 are 1, top-1 is not."""
    split = load_arguana(small_arguana).test
    sdoc = arguana_tasks(split, ["sdoc"])[0].allowed
    assert sdoc.sum(axis=1).max() == 2
    worst = np.zeros(sdoc.shape)
    worst[np.arange(len(sdoc)), list(split.counters)] = -1
    found = figures(ranks(worst, split.counters, sdoc))
    assert found == {"top1": 1 / 23, "top5": 1.0, "top10": 1.0, "mrr": (1 + 22 / 2) / 23}
    top = top_allowed(worst, sdoc, 10)
    assert (top[:, 2:] == -1).all()
    assert (top[:, 0] >= 0).all()


def test_metric_names_go_task_by_task():
    names = metric_names()
    assert names[:5] == ["sdoc_top1", "sdoc_top5", "sdoc_top10", "sdoc_mrr", "sdoa_top1"]
    assert names[-1] == "epa_mrr"
    assert len(set(names)) == 32
    assert metric_names([""]) == list(figures([1])) == ["top1", "top5", "top10", "mrr"]
    expected = [f"{task}_{figure}" for task, figure in itertools.product(TASKS, figures([1]))]
    assert names == expected


ALL = np.ones((2, 3), dtype=bool)
SCORES = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.empty((0, 3)), [], np.empty((0, 3), dtype=bool)), "no queries"),
        ((SCORES, [0, 1], ALL[:, :2]), r"one shape .* found \(2, 3\) and \(2, 2\)"),
        ((SCORES[0], [0, 1], ALL[0]), r"one shape .* found \(3,\)"),
        ((SCORES, [0, 1], ALL.astype(int)), "of int64"),
        (
            (np.where(SCORES == 4, np.nan, SCORES), [0, 1], ALL),
            "found nan for query 1, candidate 1",
        ),
        ((np.where(SCORES == 2, -np.inf, SCORES), [0, 1], ALL), "found -inf for query 0"),
        ((SCORES, [0], ALL), r"each of the 2 queries, found int64 of shape \(1,\)"),
        ((SCORES, [0.0, 1.0], ALL), "found float64"),
        ((SCORES, [0, 3], ALL), "own indexes 3 candidates, found 0 to 3"),
        ((SCORES, [-1, 0], ALL), "own indexes 3 candidates, found -1 to 0"),
        ((SCORES, [0, 1], SCORES != 4), r"query 1 \(candidate 1\) is not allowed.* 1 of 2"),
    ],
)
def test_ranks_of_what_cannot_be_ranked_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ranks(*arguments)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, None])
def test_k_that_is_no_number_of_candidates_is_refused(k):
    with pytest.raises(ValueError, match="1 or more, found"):
        top_allowed(SCORES, ALL, k)


def test_a_query_without_candidates_has_no_first_k():
    assert top_allowed(SCORES, SCORES > 2, 2).tolist() == [[-1, -1], [2, 1]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"plain_ranks": [1]}, r"needs plain_ranks and own of shape \(2,\)"),
        ({"top_scores": [[1.0], [1.0]]}, "top_scores of its own shape"),
        ({"top_scores": [[1.0, np.nan], [1.0, 1.0]]}, "top_scores must be finite"),
        ({"plain_ranks": [2, 3]}, "query 0 has rank 2, but its own candidate 2 is number 1"),
        ({"plain_ranks": [3, 3]}, "query 0 has rank 3, but its own candidate 2 is number 1"),
        ({"plain_ranks": [1, 2]}, "query 1 has rank 2, but its own candidate 0 is not among"),
        ({"plain_ranks": [1, 0]}, "query 1 has rank 0"),
        ({"top": np.empty((0, 2), dtype=int)}, "nothing to re-rank"),
    ],
)
def test_what_does_not_come_from_one_retrieval_is_not_reranked(changed, message):
    own = [2, 0]
    arguments = {
        "plain_ranks": ranks(SCORES, own, ALL),
        "top": top_allowed(SCORES, ALL, 2),
        "own": own,
        "top_scores": [[0.0, 1.0], [0.0, 1.0]],
    }
    assert reranked_ranks(**arguments).tolist() == [2, 3]
    with pytest.raises(ValueError, match=message):
        reranked_ranks(**(arguments | changed))


@pytest.mark.parametrize("wrong", [[], [0, 1], [1.0, 2.0], [[1, 2]]])
def test_figures_of_no_ranks_are_refused(wrong):
    with pytest.raises(ValueError, match=r"no queries|integers from 1"):
        figures(wrong)


@pytest.mark.parametrize("size", [(0, 3), (3, 0)])
def test_a_task_of_nothing_is_refused(size):
    with pytest.raises(ValueError, match="needs queries and candidates"):
        single_task(*size)
