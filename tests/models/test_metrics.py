"""Top-k accuracy against scikit-learn's, and what it refuses to compute."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.metrics import top_k_accuracy, top_k_correct


@st.composite
def scores_labels_k(draw, min_classes=3):
    """Few distinct scores, so that ties are the rule."""
    examples = draw(st.integers(1, 12))
    classes = draw(st.integers(min_classes, 7))
    elements = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
    scores = draw(hnp.arrays(np.float64, (examples, classes), elements=elements))
    labels = draw(hnp.arrays(np.int64, examples, elements=st.integers(0, classes - 1)))
    return scores, labels, draw(st.integers(1, classes - 1))


@given(scores_labels_k())
def test_equals_scikit_learn_with_ties(case):
    from sklearn.metrics import top_k_accuracy_score

    scores, labels, k = case
    expected = top_k_accuracy_score(labels, scores, k=k, labels=np.arange(scores.shape[1]))
    assert top_k_accuracy(scores, labels, k) == pytest.approx(expected, abs=1e-12)


@given(scores_labels_k(min_classes=2))
def test_each_example_is_judged_as_if_alone(case):
    scores, labels, k = case
    alone = [top_k_correct(scores[i : i + 1], labels[i : i + 1], k)[0] for i in range(len(labels))]
    assert top_k_correct(scores, labels, k).tolist() == alone


@given(scores_labels_k())
def test_a_larger_k_loses_no_correct_example(case):
    scores, labels, _ = case
    columns = [top_k_correct(scores, labels, k) for k in range(1, scores.shape[1])]
    for smaller, larger in itertools.pairwise(columns):
        assert (smaller <= larger).all()


def test_equal_scores_rank_the_larger_class_index_higher():
    assert top_k_correct(np.zeros((3, 3)), [0, 1, 2], k=1).tolist() == [False, False, True]
    assert top_k_correct(np.zeros((3, 3)), [0, 1, 2], k=2).tolist() == [False, True, True]


def test_two_classes_have_a_top_1():
    assert top_k_accuracy([[0.1, 0.9], [0.1, 0.9]], [1, 0], k=1) == 0.5


@pytest.mark.parametrize("k", [3, 4])
def test_k_that_makes_every_example_correct_is_refused(k):
    with pytest.raises(ValueError, match=rf"top-{k} accuracy of 3 classes .* from 1 to 2"):
        top_k_accuracy(np.eye(3), [0, 1, 2], k)


@pytest.mark.parametrize(
    ("scores", "labels", "k", "message"),
    [
        (np.eye(3), [0, 1, 2], 0, "1 or more, found 0"),
        (np.eye(3), [0, 1, 2], -1, "1 or more, found -1"),
        (np.eye(3), [0, 1, 2], 1.0, "found 1.0"),
        (np.eye(3), [0, 1, 2], True, "found True"),
        (np.zeros((2, 1)), [0, 0], 1, "two or more classes"),
        (np.eye(3), [0, 1], 1, r"found \(3, 3\) and \(2,\)"),
        (np.zeros(3), [0, 1, 2], 1, r"found \(3,\)"),
        (np.eye(3), [[0], [1], [2]], 1, r"found \(3, 3\) and \(3, 1\)"),
        (np.zeros((0, 3)), np.zeros(0, dtype=int), 1, "nothing to score"),
        (np.eye(3), [0, 1, 3], 1, "labels from 0 to 3"),
        (np.eye(3), [-1, 1, 2], 1, "labels from -1 to 2"),
        (np.eye(3), [0.0, 1.0, 2.0], 1, "float64"),
        ([[0.1, np.nan, 0.2], [1, 2, 3]], [0, 1], 1, "nan for example 0, class 1"),
        ([[0.1, 0.3, 0.2], [1, np.inf, 3]], [0, 1], 1, "inf for example 1, class 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(scores, labels, k, message):
    with pytest.raises(ValueError, match=message):
        top_k_correct(scores, labels, k)
