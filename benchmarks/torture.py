"""Kills sessions at random moments, takes them up again, and counts what was lost: nothing.

A chain is a study of short runs (real training, ``tests/studies/short_runs.py``) whose sessions are
disturbed one after the other and then finished by the same command. After each disturbance every
run in the store is read by a reader of its own; at the end the tables are compared with those of a
session that nothing disturbed. Needs Linux.

    python benchmarks/torture.py [--kills 200] [--seed 0] [--minutes M] [--json FILE]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import io
import json
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from quick_session import ROOT, describe_machine

sys.path.append(str(ROOT / "tests" / "plugin"))

from disturbances import KINDS
from disturbed_studies import END_SECONDS, STATES, Chain, Told, chain, undisturbed
from projects import set_environment

NO_KILL = "SIGSTOP, SIGCONT"
LONGEST = 6  # disturbances of one chain
PHASES = (
    "starting", "before the first record", "writing a record", "replacing a record",
    "training, 0 % there", "training, 25 % there", "training, 50 % there", "training, 75 % there",
    "training, 100 % there", "reporting",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="at least so many [200]")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn [0]")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="at most so many")
    parser.add_argument("--lanes", type=int, default=2, help="chains at the same time [2]")
    parser.add_argument(
        "--patience", type=float, default=END_SECONDS, metavar="SECONDS",
        help=f"that a session may take to end [{END_SECONDS:g}]; more on a busy machine",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was seen")
    options = parser.parse_args()
    print(f"{describe_machine()}, seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    started = time.monotonic()
    with pytest.MonkeyPatch.context() as environment:
        set_environment(environment)
        chains = run_chains(folder, options, started + 60 * options.minutes)
    print_figures(chains, time.monotonic() - started, options.patience)
    if options.json:
        content = [dataclasses.asdict(chain) for chain in chains]
        options.json.write_text(json.dumps(content, indent=1, default=str))
    if not all(chain.is_harmless for chain in chains):
        raise SystemExit(f"not harmless; what is left is in {folder}")
    shutil.rmtree(folder)


def run_chains(folder: Path, options: argparse.Namespace, deadline: float) -> list[Chain]:
    """Chains, several at a time, until there were enough kills or the time is over."""
    with contextlib.redirect_stdout(io.StringIO()):
        intact = undisturbed(folder, patience=options.patience)
    print(f"undisturbed: {len(intact.runs)} runs in {intact.seconds:.1f} s", flush=True)
    chains: list[Chain] = []
    numbers = iter(range(10**9))
    lock = threading.Lock()

    def run_lane() -> None:
        while kills_in(chains) < options.kills and time.monotonic() < deadline:
            with lock:
                number = next(numbers)
            done = chain(number, intact, folder, seed=options.seed, longest=LONGEST)
            with lock:
                chains.append(done)
                print_harm(done)
                print(f"  {len(chains)} chains, {kills_in(chains)} kills", flush=True)
            if done.is_harmless:
                shutil.rmtree(done.folder)

    with ThreadPoolExecutor(options.lanes) as lanes:
        for lane in [lanes.submit(run_lane) for _ in range(options.lanes)]:
            lane.result()
    return sorted(chains, key=lambda chain: chain.number)


def told_in(chains: list[Chain]) -> list[Told]:
    return [told for chain in chains for told in chain.told]


def kills_in(chains: list[Chain]) -> int:
    return sum(told.kind != NO_KILL for told in told_in(chains))


def print_harm(chain: Chain) -> None:
    for told in chain.told:
        if not told.is_harmless:
            print(f"chain {chain.number}: {told}", flush=True)
    for difference in chain.differences:
        print(f"chain {chain.number}, at the end: {difference}", flush=True)


def print_figures(chains: list[Chain], seconds: float, patience: float) -> None:
    told = told_in(chains)
    print_table("by kind and store state", told)
    phases = collections.Counter(seen.phase for seen in told)
    print("by moment:")
    for phase in (*PHASES, *sorted(phases.keys() - set(PHASES))):
        print(f"  {phase:<26}{phases[phase]:>5}  {'#' * round(60 * phases[phase] / len(told))}")
    forms = collections.Counter(f"{seen.form} {seen.extra}".strip() for seen in told)
    print("by session: " + ", ".join(f"{form}: {count}" for form, count in forms.most_common()))
    print(
        f"kills: {kills_in(chains)}, and {len(told) - kills_in(chains)} times stopped for a "
        f"moment, in {seconds / 60:.1f} minutes; {sum(chain.spared for chain in chains)} sessions "
        f"ended before their moment"
    )
    print(f"unfinished records left by kills: {sum(seen.half_written for seen in told)}")
    print(f"runs that went on from a checkpoint: {sum(chain.resumed for chain in chains)}")
    print(f"runs lost: {sum(len(seen.lost) for seen in told)}")
    print(f"half records read: {sum(len(seen.half) for seen in told)}")
    print(f"wrong results, or green sessions without them: {sum(len(seen.wrong) for seen in told)}")
    equal = sum(not chain.differences for chain in chains)
    print(f"tables and results equal at the end: {equal} of {len(chains)} chains")
    print(
        f"processes that stayed for {patience:g} s: {sum(len(seen.stayed) for seen in told)}; "
        f"the last was gone after {max(seen.end_seconds for seen in told):.1f} s at most"
    )
    print(f"longest wait for a lock: {max(seen.lock_seconds for seen in told):.3f} s")


def print_table(title: str, told: list[Told]) -> None:
    counts = collections.Counter((seen.kind, seen.state) for seen in told)
    states = [state for state in STATES if any(seen.state == state for seen in told)]
    width = max(map(len, states))
    print(f"{title}:")
    print(" " * 20 + "".join(f"{state:>{width + 2}}" for state in states))
    for kind in KINDS:
        cells = "".join(f"{counts[kind, state]:>{width + 2}}" for state in states)
        print(f"  {kind:<18}{cells}")


if __name__ == "__main__":
    main()
