"""How often verdicts and the gate are wrong, counted on real training runs.

Trains the studies of ``calibration_studies.py`` (quick mode, many seeds; kept in a store, so that
it can be repeated), then deals their runs out into sessions of 3 and of 5 seeds:

- the same code against itself, on seeds that no two sides share: what alarms is a false alarm;
- code with a planted mistake against the code without it: what alarms is right;
- intervals against the mean over all other seeds: how often they cover it.

Beside ours stands what people use today. Rates are means over many random deals, which share runs;
the interval after a rate (Clopper and Pearson 1934) counts only what one deal holds, sessions that
have no run in common.

    python benchmarks/gate_calibration.py [--seeds 156] [--planted-seeds 36] [--store DIR]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from quick_session import ROOT, describe_machine

sys.path.insert(0, str(ROOT))

from calibration_counting import (
    METRIC,
    TODAY,
    Count,
    Values,
    gated,
    hands,
    relabelled,
    restricted,
    values_of,
)

from models.transformer import corpus_in
from pytest_ablation import comparisons, verdicts
from pytest_ablation.crossed import example_spread
from pytest_ablation.looks import look_sizes
from pytest_ablation.plan import RowPlan, StudyPlan
from pytest_ablation.reference import ReferenceStudy, read_reference

STUDIES = Path(__file__).with_name("calibration_studies.py")
MARGIN = 0.005
PSEUDO_ROWS = 6  # a baseline and five variants that are all the same model
EXAMPLES_SHOWN = 10  # a session sees one in so many test examples
DEALS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=156, help="of the unharmed code [156]")
    parser.add_argument("--planted-seeds", type=int, default=36, help="of each mistake [36]")
    parser.add_argument("--deals", type=int, default=DEALS, help=f"random deals [{DEALS}]")
    parser.add_argument("--store", type=Path, default=ROOT / ".ablation", help="[.ablation]")
    options = parser.parse_args()
    data = os.environ.get("ABLATION_DATA")
    print(f"{describe_machine()}, {corpus_in(data)}")
    same = trained(options.store, "test_calibration", options.seeds)["calibration"]
    planted = trained(options.store, "planted", options.planted_seeds)
    draw = np.random.default_rng(0)
    print_runs(same, planted)
    print_spread(same)
    for count in (3, 5):
        print_study_alarms(same, count, options.deals, draw)
    print_auto_alarms(same, options.deals, draw)
    print_auto_verdicts(same, options.deals, draw)
    for count in (3, 5):
        print_coverage(same, count, options.deals, draw)
    for count in (3, 12):
        print_example_coverage(same, count, options.deals, draw)
    for count in (3, 5):
        print_gate_alarms(same, count, options.deals, draw)
    print_detection(same, planted, options.deals, draw)


def trained(store: Path, wanted: str, seeds: int) -> Mapping[str, ReferenceStudy]:
    """The studies with so many seeds each, trained now or kept from before."""
    report = store / "calibration" / wanted
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(STUDIES),
               "-m", "quick", "-k", wanted, f"--ablation-seeds={seeds}",
               f"--ablation-store={store}", f"--ablation-report={report}"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.stdout)
    return read_reference(report / "quick").studies


def print_runs(same: ReferenceStudy, planted: Mapping[str, ReferenceStudy]) -> None:
    runs = sum(len(row.runs) for row in same.rows.values())
    print(f"\n{runs} runs of {len(same.rows)} models without a mistake:")
    for name, by_seed in values_of(same).items():
        values = list(by_seed.values())
        print(f"  {name:12} top-1 {np.mean(values):.4f}, standard deviation "
              f"{100 * np.std(values, ddof=1):.1f} points, {len(values)} seeds")  # fmt: skip
    for name, study in planted.items():
        sizes, correlations = planted_sizes(same, study)
        print(f"  {name}: {', '.join(f'{row} {100 * size:+.1f}' for row, size in sizes.items())} "
              f"points; correlation by seed {np.mean(correlations):.2f}")  # fmt: skip


def planted_sizes(
    same: ReferenceStudy, study: ReferenceStudy
) -> tuple[dict[str, float], list[float]]:
    """Row to the mean change over all seeds; the correlation of its runs seed by seed."""
    before, after = values_of(same), values_of(study)
    sizes, correlations = {}, []
    for row, by_seed in after.items():
        pairs = np.array([(before[row][seed], value) for seed, value in by_seed.items()])
        sizes[row] = float(np.mean(pairs[:, 1] - pairs[:, 0]))
        correlations.append(float(np.corrcoef(pairs.T)[0, 1]))
    return sizes, correlations


def print_spread(same: ReferenceStudy) -> None:
    """How much the variance of differences varies between the variants of a study."""
    values = values_of(same)
    base = values["baseline"]
    spread = {name: np.std([v - base[s] for s, v in of.items()], ddof=1)
              for name, of in values.items() if name != "baseline"}  # fmt: skip
    told = ", ".join(f"{name} {100 * value:.1f}" for name, value in spread.items())
    print(f"standard deviation of the difference to the baseline, points: {told}")


def print_study_alarms(
    same: ReferenceStudy, count: int, deals: int, draw: np.random.Generator
) -> None:
    """Studies whose variants are all the same model, trained with other seeds."""
    names = ["a verdict worse or better (ours)", *TODAY]
    single = {name: Count() for name in names}
    whole = {name: Count() for name in names}
    for deal in range(deals):
        for by_seed in values_of(same).values():
            for hand in hands(list(by_seed), PSEUDO_ROWS * count, draw):
                rows = {str(i): relabelled(by_seed, hand[i * count : (i + 1) * count])
                        for i in range(PSEUDO_ROWS)}  # fmt: skip
                pairs = [(row, "0") for row in rows if row != "0"]
                deltas = comparisons.compare(rows, pairs, margin=MARGIN).values()
                found = {names[0]: [d.verdict in ("worse", "better") for d in deltas]}
                for name, alarm in TODAY.items():
                    found[name] = [alarm(list(rows[row].values()), list(rows["0"].values()))
                                   for row, _ in pairs]  # fmt: skip
                for name, alarms in found.items():
                    single[name].add(sum(alarms), len(alarms))
                    whole[name].add(any(alarms), 1)
                    if deal == 0:
                        single[name].independent += len(alarms)
                        whole[name].independent += 1
    print(f"\nStudies of {PSEUDO_ROWS - 1} variants that are the same model, {count} seeds: "
          f"false alarms")  # fmt: skip
    for name in names:
        print(f"  {name:34} per comparison {single[name]}; in any of a study {whole[name]}")


def auto_plan(rows: list[str], first: int, most: int) -> StudyPlan:
    """A study whose first row is the baseline, with ``--ablation-seeds=auto``."""
    plans = []
    for row in rows:
        keys = {seed: f"{row} {seed}" for seed in range(most)}
        own = {seed: key for seed, key in keys.items() if seed < first}
        baseline = None if row == rows[0] else rows[0]
        plans.append(RowPlan(row, baseline, {}, (), (), "", own, True, reserve=keys))
    return StudyPlan(
        "study", "quick", "", "train", (METRIC,), {METRIC: MARGIN}, tuple(plans), (), METRIC,
        looks=look_sizes(first, most), first_seeds=first, most_seeds=most,
    )  # fmt: skip


def auto_verdicts(values: Values, first: int, most: int) -> tuple[dict[str, str], float]:
    """Row to its verdict, and the mean number of seeds of all rows."""
    plan = auto_plan(list(values), first, most)
    known = verdicts.Known(values, {row.name for row in plan.rows if row.baseline is not None})
    plan, looked = verdicts.decide(plan, known, lambda row, seed: "finished")
    deltas = verdicts.deltas(plan, METRIC, known, looked)
    spent = np.mean([len(row.keys) for row in plan.rows])
    return {name: delta.verdict for name, delta in deltas.items()}, float(spent)


def print_auto_alarms(same: ReferenceStudy, deals: int, draw: np.random.Generator) -> None:
    single, whole, spent = Count(), Count(), []
    first, most = 3, 12
    for deal in range(deals):
        for by_seed in values_of(same).values():
            for hand in hands(list(by_seed), PSEUDO_ROWS * most, draw):
                rows = {str(i): relabelled(by_seed, hand[i * most : (i + 1) * most])
                        for i in range(PSEUDO_ROWS)}  # fmt: skip
                found, seeds = auto_verdicts(rows, first, most)
                alarms = [verdict in ("worse", "better") for verdict in found.values()]
                spent.append(seeds)
                for count, alarmed, chances in ((single, sum(alarms), len(alarms)),
                                                (whole, any(alarms), 1)):  # fmt: skip
                    count.add(alarmed, chances)
                    count.independent += chances * (deal == 0)
    print(f"\nThe same with --ablation-seeds=auto, {first} to {most} seeds: per comparison "
          f"{single}; in any of a study {whole}; seeds per row {np.mean(spent):.1f}")  # fmt: skip


def print_auto_verdicts(same: ReferenceStudy, deals: int, draw: np.random.Generator) -> None:
    """What the real variants come to: how often each is found to differ from the baseline."""
    values = values_of(same)
    print("\nHow often a variant of the study is found worse (w) or better (b)")
    base = values["baseline"]
    for first, most in ((3, 3), (5, 5), (3, 12), (12, 12)):
        told: dict[str, list[str]] = {}
        spent = []
        for _ in range(deals):
            for hand in hands(list(base), most, draw):
                rows = {name: relabelled(by_seed, hand) for name, by_seed in values.items()}
                found, seeds = auto_verdicts(rows, first, most)
                spent.append(seeds)
                for name, verdict in found.items():
                    told.setdefault(name, []).append(verdict)
        parts = []
        for name, given in told.items():
            change = 100 * np.mean([values[name][seed] - base[seed] for seed in base])
            rates = (100 * given.count(word) / len(given) for word in ("worse", "better"))
            parts.append(f"{name} ({change:+.1f}) " + "w {:.0f} % b {:.0f} %".format(*rates))
        way = f"{first} seeds" if first == most else f"auto, {first} to {most} seeds"
        print(f"  {way}: {'; '.join(parts)}; seeds per row {np.mean(spent):.1f}")


def print_coverage(same: ReferenceStudy, count: int, deals: int, draw: np.random.Generator) -> None:
    """Intervals of the real study against the deltas over all other seeds."""
    values = values_of(same)
    pairs = [(name, "baseline") for name in values if name != "baseline"]
    print(f"\nCoverage of 95 % intervals of {len(pairs)} variants, {count} seeds (and their mean "
          f"width in points)")  # fmt: skip
    kept = comparisons.PRIOR_DF
    for prior in (0.0, 2.0, kept, 8.0, 1e9):
        comparisons.PRIOR_DF = prior
        together, single, widths = Count(), {pair: Count() for pair in pairs}, []
        for deal in range(deals if prior == kept else max(1, deals // 4)):
            for hand in hands(list(values["baseline"]), count, draw):
                rows = {name: relabelled(by_seed, hand) for name, by_seed in values.items()}
                deltas = comparisons.compare(rows, pairs, margin=MARGIN)
                covered = [_covers(values, pair, delta, hand) for pair, delta in deltas.items()]
                widths += [delta.high - delta.low for delta in deltas.values()]
                together.add(all(covered), 1)
                together.independent += deal == 0
                for pair, hit in zip(deltas, covered, strict=True):
                    single[pair].add(hit, 1)
        lowest = min(single, key=lambda pair: single[pair].alarms)
        rate = single[lowest].alarms / single[lowest].chances
        name = {kept: "ours", 0.0: "own variance alone", 1e9: "one variance for all"}.get(prior, "")
        print(f"  prior {prior:<5g} {name:20} all of a study {together}; lowest single "
              f"{100 * rate:.1f} % ({lowest[0]}); width {100 * np.mean(widths):.1f}")  # fmt: skip
    comparisons.PRIOR_DF = kept


def _covers(values: Values, pair: tuple[str, str], delta, hand: list[int]) -> bool:
    others = [seed for seed in values[pair[0]] if seed not in hand]
    truth = np.mean([values[pair[0]][seed] - values[pair[1]][seed] for seed in others])
    return delta.low <= truth <= delta.high


def print_example_coverage(
    same: ReferenceStudy, count: int, deals: int, draw: np.random.Generator
) -> None:
    """Other seeds and other test examples: a part of the examples, against all others."""
    correct = {name: {seed: run.correct[METRIC].array() for seed, run in row.runs.items()}
               for name, row in same.rows.items()}  # fmt: skip
    size = len(next(iter(correct["baseline"].values())))
    names = [name for name in correct if name != "baseline"]
    both = {"seeds": Count(), "seeds+examples": Count()}
    for deal in range(max(1, deals // 4)):
        for hand in hands(list(correct["baseline"]), count, draw):
            chosen = draw.permutation(size)
            shown, hidden = chosen[: size // EXAMPLES_SHOWN], chosen[size // EXAMPLES_SHOWN :]
            others = [seed for seed in correct["baseline"] if seed not in hand]
            rows, spreads, truths = {}, {}, {}
            for name, of in correct.items():
                rows[name] = {seed: float(of[seed][shown].mean()) for seed in hand}
            for name in names:
                table = np.stack([correct[name][s][shown].astype(float)
                                  - correct["baseline"][s][shown] for s in hand])  # fmt: skip
                spreads[name, "baseline"] = example_spread(table)
                truths[name] = np.mean([correct[name][s][hidden].mean()
                                        - correct["baseline"][s][hidden].mean()
                                        for s in others])  # fmt: skip
            pairs = [(name, "baseline") for name in names]
            for kind, examples in (("seeds", None), ("seeds+examples", spreads)):
                deltas = comparisons.compare(rows, pairs, margin=MARGIN, examples=examples)
                hit = all(d.low <= truths[p[0]] <= d.high for p, d in deltas.items())
                both[kind].add(hit, 1)
                both[kind].independent += deal == 0
    seen, unseen = size // EXAMPLES_SHOWN, size - size // EXAMPLES_SHOWN
    print(f"\nCoverage of the deltas on other test examples, {count} seeds and {seen} examples "
          f"(the truth, from the other {unseen}, is itself not exact), all of a study")  # fmt: skip
    for kind, counted in both.items():
        print(f"  --ablation-interval={kind:15} {counted}")


def print_gate_alarms(
    same: ReferenceStudy, count: int, deals: int, draw: np.random.Generator
) -> None:
    """Sessions of the same code, on seeds that the reference has not seen."""
    rows = list(same.rows)
    ways = {f"ours, reference of {count}": (count, count), "ours, reference of 12": (12, count),
            f"ours, up to 12 seeds, reference of {count}": (count, 12),
            "ours, up to 12 seeds, reference of 12": (12, 12)}  # fmt: skip
    print(
        f"\nThe gate on unchanged code, other seeds, {len(rows)} rows, {count} seeds: false alarms"
    )
    for name, (old_count, most) in ways.items():
        session, single, seeds_spent = Count(), Count(), []
        for deal in range(deals):
            for hand in hands(list(same.rows["baseline"].runs), old_count + most, draw):
                old = restricted(same, hand[:old_count], rows)
                new = restricted(same, hand[old_count:], rows)
                failures, spent = gated(old, new, count, most)
                session.add(any(failures), 1)
                single.add(sum(failures), len(failures))
                seeds_spent.append(spent)
                session.independent += deal == 0
                single.independent += len(failures) * (deal == 0)
        print(f"  {name:42} of sessions {session}; per comparison {single}; seeds per row "
              f"{np.mean(seeds_spent):.1f}")  # fmt: skip
    for name, alarm in TODAY.items():
        session, single = Count(), Count()
        for deal in range(max(1, deals // 4)):
            for hand in hands(list(same.rows["baseline"].runs), 2 * count, draw):
                values = values_of(same)
                alarms = [alarm([values[r][s] for s in hand[:count]],
                                [values[r][s] for s in hand[count:]]) for r in rows]  # fmt: skip
                session.add(any(alarms), 1)
                single.add(sum(alarms), len(alarms))
                session.independent += deal == 0
                single.independent += len(alarms) * (deal == 0)
        print(f"  {name:42} of sessions {session}; per comparison {single}")


def print_detection(
    same: ReferenceStudy,
    planted: Mapping[str, ReferenceStudy],
    deals: int,
    draw: np.random.Generator,
) -> None:
    """Code with a planted mistake, on the seeds of the reference."""
    print("\nThe gate on planted mistakes (the same seeds as the reference): detected")
    for name, study in planted.items():
        sizes, _ = planted_sizes(same, study)
        rows = list(study.rows)
        print(f"  {name}: {100 * np.mean(list(sizes.values())):+.1f} points on average over "
              f"{len(rows)} rows")  # fmt: skip
        seeds = list(study.rows["baseline"].runs)
        for count, most, old_count in ((3, 3, 3), (3, 3, 12), (5, 5, 5), (5, 5, 12), (3, 12, 3),
                                       (3, 12, 12)):  # fmt: skip
            found, spent = Count(), []
            size = max(most, old_count)
            for deal in range(deals):
                for hand in hands(seeds, size, draw):
                    old = restricted(same, hand[:old_count], rows)
                    new = restricted(study, hand[:most], rows)
                    failures, used = gated(old, new, count, most)
                    found.add(any(failures), 1)
                    spent.append(used)
                    found.independent += deal == 0
            way = f"{count} seeds" if most == count else f"{count} to {most} seeds"
            print(f"    {way}, reference of {old_count:2}: {found}; seeds per row "
                  f"{np.mean(spent):.1f}")  # fmt: skip
        for count in (3, 5):
            print_today(same, study, seeds, count, max(1, deals // 4), draw)


def print_today(
    same: ReferenceStudy,
    study: ReferenceStudy,
    seeds: list[int],
    count: int,
    deals: int,
    draw: np.random.Generator,
) -> None:
    before, after = values_of(same), values_of(study)
    told = []
    for name, alarm in TODAY.items():
        single = Count()
        for _ in range(deals):
            for hand in hands(seeds, count, draw):
                for row in after:
                    new, old = ([side[row][s] for s in hand] for side in (after, before))
                    single.add(alarm(new, old), 1)
        told.append(f"{name} {100 * single.alarms / single.chances:.0f} %")
    print(f"    {count} seeds, today, per row: {'; '.join(told)}")


if __name__ == "__main__":
    main()
