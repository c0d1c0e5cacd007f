"""Digests: equal exactly for equal values."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ablation.digests import RunningDigest, digest

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def canonical(value):
    """A form in which equality means: the same type and the same content."""
    if isinstance(value, dict):
        return ("dict", sorted((key, canonical(member)) for key, member in value.items()))
    if isinstance(value, list):
        return ("list", [canonical(member) for member in value])
    return (type(value).__name__, repr(value))


@given(plain, plain)
def test_digests_agree_exactly_when_values_do(one, other):
    assert (digest(one) == digest(other)) == (repr(canonical(one)) == repr(canonical(other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab"], ["a", "b"]),
        ([["a"], "b"], [["a", "b"]]),
        (1, True),
        (1, 1.0),
        ("1", 1),
        (b"a", "a"),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        (np.zeros(4), np.zeros((2, 2))),
        (np.zeros(2, "f4"), np.zeros(2, "f8")),
        (np.zeros(2), np.array([0.0, -0.0])),
    ],
)
def test_values_that_could_be_confused_differ(one, other):
    assert digest(one) != digest(other)


def test_the_order_of_keys_and_the_layout_of_arrays_do_not_count():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    array = np.arange(12).reshape(3, 4)
    assert digest(array) == digest(np.asfortranarray(array))
    assert digest({1, 2, 3}) == digest({3, 2, 1})


def test_a_dataclass_is_digested_by_its_fields():
    @dataclass
    class Config:
        depth: int
        width: int

    assert digest(Config(1, 2)) == digest(Config(1, 2)) != digest(Config(2, 1))


def test_a_function_cannot_be_digested():
    with pytest.raises(TypeError, match="cannot digest a function"):
        digest({"train": digest})


def test_every_process_gets_the_same_digest():
    code = "from pytest_ablation.digests import digest; print(digest({'a': {'x', 'y'}, 'b': 0.1}))"
    outputs = {
        subprocess.run([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, check=True,
                       env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert outputs == {digest({"a": {"x", "y"}, "b": 0.1}) + "\n"}


def test_a_running_digest_depends_on_every_value():
    def running(*values):
        hasher = RunningDigest()
        for value in values:
            hasher.update(np.asarray(value))
        return hasher.hexdigest()

    assert running([1], [2]) == running([1], [2])
    assert len({running([1], [2]), running([2], [1]), running([1, 2]), running([1])}) == 4
