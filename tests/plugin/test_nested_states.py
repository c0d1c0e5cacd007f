"""Nested states come back from a checkpoint as they were, and watches go on from theirs."""

import math
import random
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from resumable_loop import exact, folder_of
from safetensors.numpy import load_file

from pytest_ablation import Mode, Run
from pytest_ablation.digests import RunningDigest
from pytest_ablation.watches import EpochOrders, EpochSeconds, GradientWatch, LossWatch

DTYPES = (
    arrays.boolean_dtypes() | arrays.integer_dtypes(endianness="?")
    | arrays.floating_dtypes(endianness="?") | arrays.complex_number_dtypes(endianness="?")
    | arrays.unicode_string_dtypes(endianness="?")
)  # fmt: skip
ARRAYS = arrays.arrays(DTYPES, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
NAMES = st.text(max_size=5) | st.sampled_from(
    ["$array", "$items", "$float", "$tuple", "weights", "../../../x", "__metadata__", "a0", "\n"]
)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.integers(0, 40000).map(lambda n: -(7**n))
    | st.floats() | st.text(max_size=8)
)  # fmt: skip
NESTED = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(NAMES | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)
STATES = st.dictionaries(NAMES, NESTED, max_size=3).flatmap(
    lambda state: st.dictionaries(NAMES, ARRAYS, max_size=3).map(lambda w: {"weights": w, **state})
)


@settings(max_examples=60)
@given(state=STATES, seen=st.dictionaries(NAMES, NESTED, max_size=2))
def test_nested_states_come_back_as_they_were(state, seen, tmp_path_factory):
    folder = folder_of(tmp_path_factory.mktemp("nested"))
    folder.write(7, state, seen, {})
    kept = folder.read({})
    assert (kept.checkpoint.epoch, exact(kept.checkpoint.state)) == (7, exact(state))
    assert exact(kept.seen) == exact(seen)
    shutil.rmtree(folder.path.parent)


def test_scalars_and_layouts_of_numpy_become_plain_arrays(tmp_path):
    turned = np.arange(6.0).reshape(2, 3).T
    state = {"weights": {"w": turned}, "loss": np.float64(0.5), "one": np.float32(1.5)}
    folder = folder_of(tmp_path)
    folder.write(1, state, {}, {})
    back = folder.read({}).checkpoint.state
    assert np.array_equal(back["weights"]["w"], turned)
    assert np.array_equal(load_file(folder.path / "weights.safetensors")["w"], turned)
    assert (back["loss"], type(back["loss"])) == (0.5, float)
    assert (back["one"], back["one"].dtype, back["one"].shape) == (1.5, np.float32, ())
    back["weights"]["w"] += 1  # no view of a file that could not be written to


@pytest.mark.parametrize("kind", ["float32", "int8", "bool", "complex128", "longdouble", "U3"])
def test_weights_of_any_name_and_type_are_kept(kind, tmp_path):
    names = ["__metadata__", "../x", "\n", "", "é", "\ud800", 3, None]
    weights = {name: np.full(2, number, kind) for number, name in enumerate(names)}
    folder = folder_of(tmp_path)
    folder.write(1, {"weights": weights | {"list": [np.ones(2, kind)]}}, {}, {})
    back = folder.read({}).checkpoint.state["weights"]
    assert exact(back.pop("list")) == exact([np.ones(2, kind)])
    assert exact(back) == exact(weights)


def test_any_generator_of_numpy_and_python_goes_on(tmp_path):
    kinds = (np.random.PCG64, np.random.SFC64, np.random.MT19937, np.random.Philox)
    generators = [np.random.Generator(kind(3)) for kind in kinds]
    own = random.Random(3)
    for generator in generators:
        generator.random(5, np.float32)  # leaves half of a word behind
    states = [generator.bit_generator.state for generator in generators]
    folder = folder_of(tmp_path)
    folder.write(1, {"numpy": states, "python": own.getstate()}, {}, {})
    back = folder.read({}).checkpoint.state
    for generator, kind, state in zip(generators, kinds, back["numpy"], strict=True):
        other = np.random.Generator(kind(4))
        other.bit_generator.state = state
        assert np.array_equal(
            other.integers(0, 99, 9, np.uint32), generator.integers(0, 99, 9, np.uint32)
        )
    other = random.Random()
    other.setstate(back["python"])
    assert other.random() == own.random()


@pytest.mark.parametrize("thing", [len, {1, 2}, b"bytes", np.array([print])])
def test_what_needs_pickle_is_refused_by_its_place(thing, tmp_path):
    run = Run(seed=0, mode=Mode(seeds=1), checkpoints=folder_of(tmp_path))
    with pytest.raises(TypeError, match=r"state / layers / 1 / f is a .* cannot hold"):
        run.checkpoint(1, lambda: {"layers": [0, {"f": thing}]})
    assert not list(tmp_path.iterdir())


# --- watches and digests that go on -----------------------------------------------------------

NORMS = st.lists(st.floats() | st.sampled_from([math.inf, math.nan]), max_size=9)
LOSSES = st.lists(st.floats(0.01, 3) | st.sampled_from([50.0, 90.0]), min_size=20, max_size=90)


@settings(max_examples=40)
@given(losses=LOSSES, norms=NORMS, split=st.integers(0, 90))
def test_a_watch_that_goes_on_sees_what_one_that_never_stopped_does(losses, norms, split):
    for values, kind in ((losses, LossWatch), (norms, GradientWatch)):
        whole, watch = kind(), kind()
        for number, value in enumerate(values):
            if number == split:
                watch = kind.of(watch.state())
            for each in (whole, watch):
                each.see(value, 1 + number // 10, number + 1)
        assert repr(watch.summary()) == repr(whole.summary())


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=8), st.integers(0, 8),
    st.sampled_from([1, 3, 3, 9]),
)  # fmt: skip
def test_orders_and_times_of_epochs_go_on(batches, split, first):
    def watched(stop):
        order, epochs, seconds = RunningDigest(), EpochOrders(), EpochSeconds()
        for number, batch in enumerate(batches):
            if number == stop:
                order = RunningDigest(order.state)
                epochs, seconds = EpochOrders.of(epochs.state()), EpochSeconds.of(seconds.state())
            order.update(batch)
            epoch = first if number == 0 else 1 + number // 3
            epochs.see(epoch, order.hexdigest)
            seconds.see(2 * epoch, float(number))
        return order.hexdigest(), epochs.summary(), seconds.summary()

    assert watched(split) == watched(None)
