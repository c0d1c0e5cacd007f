"""The accuracy of the bi-encoder's configurations on ArguAna, full mode, with intervals.

Runs the full cases of the two bi-encoder studies (runs that are kept are reused: an hour on two
cores, else seconds) and prints the figures of README.md.

    python benchmarks/biencoder_accuracy.py --ablation-data DIR [--ablation-store DIR]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
STUDIES = ["ablation_tests/test_biencoder_normalization.py",
           "ablation_tests/test_biencoder_choices.py"]  # fmt: skip
METRICS = ("epa_top1", "reranked_epa_top1", "unseen_epa_top1", "unseen_reranked_epa_top1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ablation-data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--ablation-store", type=Path, default=ROOT / ".ablation", metavar="DIR")
    options = parser.parse_args()
    from quick_session import describe_machine

    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "pytest", "-q", "-m", "full", *STUDIES, "-p", "no:cacheprovider",
            f"--ablation-data={options.ablation_data.resolve()}",
            f"--ablation-store={options.ablation_store.resolve()}", f"--ablation-report={folder}",
        ]  # fmt: skip
        result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        print(result.stdout[result.stdout.rindex("= ablation =") :])
        print_tables(Path(folder) / "full" / "runs.csv")
        print_report(Path(folder) / "full" / "report.md")
    return result.returncode


def print_tables(runs: Path) -> None:
    """Mean and 95 % interval (Student's t over the seeds) of each row and metric, in percent."""
    import pandas as pd

    table = pd.read_csv(runs)
    for study, rows in table[table.metric.isin(METRICS)].groupby("study", sort=False):
        print(f"\n{study}: percent, mean over the seeds and its 95 % interval")
        print("| row | seeds | " + " | ".join(METRICS) + " |")
        print("| --- | --: |" + " --: |" * len(METRICS))
        for row, of_row in rows.groupby("variant", sort=False):
            values = {metric: of_row[of_row.metric == metric].value for metric in METRICS}
            cells = " | ".join(interval(values[metric]) for metric in METRICS)
            print(f"| {row} | {len(values[METRICS[0]])} | {cells} |")


def interval(values) -> str:
    from scipy import stats

    mean, error = values.mean(), stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error)
    return f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def print_report(report: Path) -> None:
    """What the report says beside its CSV files."""
    lines = report.read_text(encoding="utf-8").splitlines()
    print("\nfrom report.md:")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
