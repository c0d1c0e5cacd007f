"""Sessions that are killed and taken up again lose nothing: a short benchmarks/torture.py."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

NUMBERS = (0, 8, 9)  # of chains: an empty store, one with leftovers, one with a damaged record
SEED = 10354  # each moment hangs on what is written, none on the clock: all six are reached
PATIENCE = 90.0  # seconds, of a busy machine


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Chains of disturbed sessions, at the same time: a pool, one process, and ``-n 2``."""
    from disturbed_studies import chain, undisturbed
    from projects import set_environment

    folder = tmp_path_factory.mktemp("torture")
    with pytest.MonkeyPatch.context() as environment:
        set_environment(environment)
        options = {"patience": PATIENCE, "checkpoints": False}
        intact = undisturbed(folder, "--ablation-seeds=2", **options)
        with ThreadPoolExecutor(len(NUMBERS)) as lanes:
            done = lanes.map(lambda n: chain(n, intact, folder, seed=SEED, longest=2), NUMBERS)
            return list(done)


@pytest.fixture(scope="module")
def told(chains):
    return [told for chain in chains for told in chain.told]


def test_the_sessions_were_disturbed_in_several_ways(told):
    assert len(told) >= 5
    assert len({seen.kind for seen in told}) >= 3
    assert len({seen.form for seen in told}) == 3


def test_whole_runs_stay_as_they_are(told):
    assert [seen for seen in told if seen.lost] == []


def test_no_half_written_run_stands_where_whole_ones_do(told):
    assert [seen for seen in told if seen.half] == []


def test_no_run_comes_to_another_result_and_no_green_session_lacks_one(told):
    assert [seen for seen in told if seen.wrong] == []


def test_every_process_ends_and_every_lock_is_free(told):
    assert [seen for seen in told if seen.stayed or seen.lock_seconds >= PATIENCE] == []


def test_the_same_command_comes_to_the_tables_of_an_undisturbed_session(chains):
    assert {chain.number: chain.differences for chain in chains} == dict.fromkeys(NUMBERS, ())
