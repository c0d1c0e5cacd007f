"""The plugin with other people's models: scikit-learn, a dict, and the study of the README."""

import re
import shutil

import pytest
from projects import ROOT


def test_a_scikit_learn_study_with_a_dict_gives_what_scikit_learn_gives(project):
    from sklearn.datasets import load_digits
    from sklearn.linear_model import SGDClassifier

    shutil.copy(ROOT / "tests" / "studies" / "digits.py", project.path / "test_digits.py")
    result = project.run("-m", "quick", jobs=2)
    result.assert_outcomes(passed=3)
    x, y = load_digits(return_X_y=True)
    changes = {
        "baseline": {},
        "logistic": {"loss": "log_loss"},
        "regularised": {"alpha": 1.0},
        "no_intercept": {"fit_intercept": False},
    }
    expected = {
        (name, seed): SGDClassifier(max_iter=5, tol=None, random_state=seed, **change)
        .fit(x[:1200] / 16, y[:1200])
        .score(x[1200:] / 16, y[1200:])
        for name, change in changes.items()
        for seed in range(3)
    }
    found = {(r["variant"], int(r["seed"])): float(r["value"]) for r in project.rows("runs")
             if r["metric"] == "top1"}  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-9)
    assert float(project.row("regularised")["delta"]) < 0


def test_the_study_of_the_readme_runs_as_it_stands(project):
    readme = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n# test_digits\.py\n(.*?)```", readme, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 22
    (project.path / "test_digits.py").write_text(code)
    result = project.run("-m", "quick", jobs=2)
    result.assert_outcomes(passed=2, deselected=2)
    assert project.row("linear")["status"] == "ok"
    assert float(project.row("narrow")["delta"]) < 0
