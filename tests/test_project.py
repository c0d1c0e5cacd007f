"""The project itself: what may import what, what collection costs, what the README promises."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QUICK_CASES = [
    "test_biencoder_normalization.py::test_normalization[with_layernorm-quick]",
    "test_biencoder_normalization.py::test_normalization[with_relu-quick]",
    "test_biencoder_normalization.py::test_normalization[with_layernorm_relu-quick]",
    "test_biencoder_normalization.py::test_normalization[without_layernorm-quick]",
    "test_biencoder_normalization.py::test_normalization[without_relu-quick]",
    "test_transformer_budget.py::test_budget[length_32-quick]",
    "test_transformer_budget.py::test_budget[length_128-quick]",
    "test_transformer_budget.py::test_budget[length_256-quick]",
    "test_transformer_budget.py::test_budget[batch_16-quick]",
    "test_transformer_budget.py::test_budget[batch_256-quick]",
    "test_transformer_components.py::test_components[no_pe-quick]",
    "test_transformer_components.py::test_components[single_head-quick]",
    "test_transformer_components.py::test_components[no_ffn-quick]",
    "test_transformer_components.py::test_components[freeze_emb-quick]",
    "test_transformer_components.py::test_components[no_dropout-quick]",
    "test_transformer_components.py::test_components[clip_grad-quick]",
    "test_transformer_grid.py::test_grid[d64-h2-lr0.0005-quick]",
    "test_transformer_grid.py::test_grid[d64-h2-lr0.001-quick]",
    "test_transformer_grid.py::test_grid[d128-h4-lr0.0005-quick]",
    "test_transformer_grid.py::test_grid[d128-h4-lr0.001-quick]",
    "test_transformer_grid.py::test_grid[d256-h8-lr0.0005-quick]",
    "test_transformer_grid.py::test_grid[d256-h8-lr0.001-quick]",
    "test_transformer_positional.py::test_positional[learned-quick]",
    "test_transformer_positional.py::test_positional[rotary-quick]",
    "test_transformer_positional.py::test_positional[alibi-quick]",
    "test_transformer_positional.py::test_positional[none-quick]",
    "test_transformer_pretraining.py::test_pretraining[frozen-quick]",
    "test_transformer_pretraining.py::test_pretraining[fine_tuned-quick]",
]
FULL_CASES = [
    "test_biencoder_choices.py::test_choices[random_negatives-full]",
    "test_biencoder_choices.py::test_choices[hard_negatives-full]",
    "test_biencoder_choices.py::test_choices[contrastive-full]",
    "test_biencoder_choices.py::test_choices[separate_heads-full]",
    "test_biencoder_choices.py::test_choices[fusion_encoder-full]",
    "test_biencoder_choices.py::test_choices[fusion_both-full]",
    *(case.replace("-quick", "-full") for case in QUICK_CASES),
]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_plugin_imports_no_torch_and_no_model():
    for path in (ROOT / "pytest_ablation").rglob("*.py"):
        top = {name.partition(".")[0] for name in imported_modules(path)}
        assert not top & {"torch", "transformers", "sklearn", "models"}, path


def test_the_models_import_only_the_run_interface_of_the_plugin():
    # Heat maps are something that a run tells; a command of the models draws the same ones, and
    # another one trains a single run.
    told = {"pytest_ablation.heat_maps", "pytest_ablation.heat_map_drawing",
            "pytest_ablation.single"}  # fmt: skip
    allowed = {"pytest_ablation.run", "pytest_ablation.mode", "pytest_ablation.errors", *told}
    for path in (ROOT / "models").rglob("*.py"):
        used = {name for name in imported_modules(path) if name.startswith("pytest_ablation")}
        assert used <= allowed, path


@pytest.mark.parametrize(
    ("mode", "folder", "cases"),
    [("quick", ".", QUICK_CASES), ("full", "ablation_tests", FULL_CASES)],
)
def test_collecting_the_studies_lists_readable_ids_and_imports_nothing_heavy(mode, folder, cases):
    code = (
        "import sys, pytest; "
        "pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', '--assert=plain', "
        f"'-m', '{mode}', '{folder}']); "
        "print('HEAVY', sorted({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    without_data = {name: v for name, v in os.environ.items() if name != "ABLATION_DATA"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True,
        env=without_data,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert [line for line in lines if "::" in line] == [f"ablation_tests/{case}" for case in cases]
    assert lines[-1] == "HEAVY []"


def test_requirements_pin_the_one_torch():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("torch")] == ["torch==2.13.0"]


def test_every_option_is_in_the_readme():
    from pytest_ablation import options

    names = [value for name, value in vars(options).items() if name.endswith("_OPTION")]
    readme = (ROOT / "README.md").read_text()
    assert len(names) == 20
    assert [name for name in names if name not in readme] == []
    assert "--ablation-encoder" in readme


def test_the_committed_reference_is_of_the_quick_cases():
    from pytest_ablation.reference import read_reference

    reference = read_reference(ROOT / "reports" / "reference" / "quick.json", "quick")
    rows = {name for study in reference.studies.values() for name in study.rows}
    assert {case.rpartition("[")[2].removesuffix("-quick]") for case in QUICK_CASES} <= rows
    assert all(row.status == "ok" for s in reference.studies.values() for row in s.rows.values())
    assert reference.made["uncommitted"] is False
