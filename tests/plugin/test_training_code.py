"""Which changes of source change the digest of the training code, and which do not."""

import functools
import importlib
import importlib.metadata
import sys
import textwrap

import numpy as np
import pytest

from pytest_ablation.training_code import training_code

FILES = {
    "project_entry.py": """
        '''Docstring.'''
        import numpy as np
        from project_parts import layers
        from project_parts.optimizer import STEP as step

        UNRELATED = 1
        SCALE = 2.0

        def helper(x):
            return x * SCALE

        def train(config, run):
            '''What it does.'''
            from project_lazy import late   # imported when it runs
            return {"top1": helper(config["width"]) + layers.deep() + late() + step + np.pi}

        def other(config, run):
            return {"top1": UNRELATED}
    """,
    "project_parts/__init__.py": "",
    "project_parts/layers.py": "from .blocks import block\n\ndef deep():\n    return block()\n",
    "project_parts/blocks.py": "def block():\n    return 1\n",
    "project_parts/optimizer.py": "STEP = 0.1\n",
    "project_parts/unused.py": "X = 1\n",
    "project_lazy.py": "def late():\n    return 0\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that writes the files, with changes, and gives the code of ``train``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(changes=None, function="train"):
        for name in [name for name in sys.modules if name.startswith("project_")]:
            del sys.modules[name]
        for name, text in FILES.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            old, new = (changes or {}).get(name, ("", ""))
            assert old in text
            path.write_text(textwrap.dedent(text.replace(old, new) if old else text))
        importlib.invalidate_caches()
        return training_code(getattr(importlib.import_module("project_entry"), function))

    yield load
    for name in [name for name in sys.modules if name.startswith("project_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("project_entry.py", "+ np.pi", "- np.pi"),
        ("project_entry.py", "x * SCALE", "x + SCALE"),
        ("project_entry.py", "SCALE = 2.0", "SCALE = 3.0"),
        ("project_parts/layers.py", "return block()", "return -block()"),
        ("project_parts/blocks.py", "return 1", "return 2"),
        ("project_parts/optimizer.py", "0.1", "0.2"),
        ("project_lazy.py", "return 0", "return 1"),
    ],
)
def test_a_change_that_training_can_reach_counts(project, file, old, new):
    assert project().digest != project({file: (old, new)}).digest


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("project_entry.py", "UNRELATED = 1", "UNRELATED = 2"),
        ("project_entry.py", "'''What it does.'''", "'''What it really does.'''"),
        ("project_entry.py", "# imported when it runs", "# a comment"),
        ("project_entry.py", "'''Docstring.'''", "'''Another.'''"),
        ("project_parts/unused.py", "X = 1", "X = 2"),
    ],
)
def test_a_change_that_training_cannot_reach_does_not_count(project, file, old, new):
    assert project().digest == project({file: (old, new)}).digest


def test_the_other_function_has_a_digest_of_its_own(project):
    assert project().digest != project(function="other").digest


def test_libraries_are_named_with_their_versions(project):
    """Also one whose module has another name, and none that this machine has not."""
    late = "from project_lazy", "import sklearn, no_such_module\n            from project_lazy"
    libraries = project({"project_entry.py": late}).libraries
    assert libraries["numpy"] == np.__version__
    assert libraries["scikit-learn"] == importlib.metadata.version("scikit-learn")
    assert set(libraries) <= {"numpy", "scikit-learn", "torch"}


def test_the_names_that_the_code_reads(project):
    mentioned = project().mentioned
    assert {"width", "deep", "late"} <= mentioned
    assert not {"UNRELATED", "learning_rate"} & mentioned


def test_arguments_bound_by_partial_count(project):
    project()
    train = sys.modules["project_entry"].train
    digests = {
        training_code(train).digest,
        training_code(functools.partial(train, extra=1)).digest,
        training_code(functools.partial(train, extra=2)).digest,
    }
    assert len(digests) == 3


def test_a_function_without_source_is_digested_by_its_bytecode():
    def make(text):
        namespace = {"__name__": "typed"}
        exec(text, namespace)
        return training_code(namespace["train"]).digest

    one = make("def train(config, run):\n    return {'top1': 1}")
    assert one == make("def train(config, run):\n\n    return {'top1': 1}")
    assert one != make("def train(config, run):\n    return {'top1': 2}")


CARRIED = {
    "a star import": ("from helpers import *", "return {'top1': h()}", "train"),
    "a conditional import": (
        "try:\n    import nothing_of_this_name\nexcept ImportError:\n    from helpers import h",
        "return {'top1': h()}",
        "train",
    ),
    "a decorator that hides the function": (
        "from helpers import timed",
        "return {'top1': 1}",
        "timed(train)",
    ),
    "a callable object": ("from helpers import Trainer", "return {'top1': 1}", "Trainer(2.0)"),
    "a bound method": ("from helpers import Trainer", "return {'top1': 1}", "Trainer(2.0).run"),
    "a closure": ("from helpers import make", "return {'top1': 1}", "make(2.0)"),
}
HELPERS = """
def h():
    return 1.0

def timed(function):
    def inner(config, run):
        return function(config, run)
    return inner

class Trainer:
    def __init__(self, rate):
        self.rate = rate
    def __call__(self, config, run):
        return {"top1": self.rate * h()}
    def run(self, config, run):
        return {"top1": self.rate * h()}

def make(rate):
    def train(config, run):
        return {"top1": rate * h()}
    return train
"""


@pytest.mark.parametrize("name", CARRIED)
def test_what_a_function_carries_along_counts(tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(str(tmp_path))
    imports, body, expression = CARRIED[name]

    def code(helpers=HELPERS, body=body, expression=expression):
        for module in ("entry", "helpers"):
            sys.modules.pop(module, None)
        (tmp_path / "helpers.py").write_text(helpers)
        text = f"{imports}\n\ndef train(config, run):\n    {body}\n\nused = {expression}\n"
        (tmp_path / "entry.py").write_text(text)
        importlib.invalidate_caches()
        return training_code(importlib.import_module("entry").used)

    assert code() == code()
    assert code().is_stable
    changed = []
    if "h()" in body or "2.0" in expression:
        changed.append(code(helpers=HELPERS.replace("return 1.0", "return 2.0")))
    if "2.0" in expression:
        changed.append(code(expression=expression.replace("2.0", "3.0")))
    if expression == "timed(train)":
        changed.append(code(body="return {'top1': 2}"))
    assert changed
    assert all(other.digest != code().digest for other in changed)


def test_the_properties_of_a_configuration_class_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def code(factor):
        sys.modules.pop("configured", None)
        (tmp_path / "configured.py").write_text(f"""
class Config:
    @property
    def double(self):
        return {factor}

def train(config, run):
    return {{"top1": config.double}}
""")
        importlib.invalidate_caches()
        module = importlib.import_module("configured")
        return training_code(module.train, module.Config).digest

    assert code(2) == code(2) != code(3)


def test_values_that_repeat_or_nest_are_told_apart():
    def train(config, run, **bound):
        return {"top1": 1.0}

    one, two = [1], [2]
    bound = [
        {"x": one, "y": two, "z": one},
        {"x": one, "y": two, "z": two},
        {"x": 1, "y": 2, "z": 1},
        {"x": 1, "y": 2, "z": 2},
        {"x": 1, "y": 2},
        {"x": [[1], 2]},
        {"x": [1, [2]]},
        {"x": [1, 2]},
    ]
    digests = {training_code(functools.partial(train, **values)).digest for values in bound}
    assert len(digests) == len(bound)


def test_what_has_no_stable_content_is_told():
    with open(__file__) as file:
        assert not training_code(functools.partial(print, file=file)).is_stable
