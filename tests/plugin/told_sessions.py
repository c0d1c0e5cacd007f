"""A small study with all that a reference holds, and what a session of it leaves in a store."""

import json
import math

import numpy as np
from in_process import only_study

from pytest_ablation import Run, Study, Variant
from pytest_ablation.configuration import plain_values
from pytest_ablation.mode import Mode
from pytest_ablation.planning import Planner
from pytest_ablation.record_files import files_of
from pytest_ablation.reference import (
    reference_of,
)
from pytest_ablation.results import study_result
from pytest_ablation.store import Store
from pytest_ablation.study import CaseSpec

EXAMPLES = 21  # no multiple of eight
ROWS = ["baseline", "narrow", "also_narrow", "wide"]


def right(width, seed):
    """Which examples a model of this width gets right with this seed."""
    return np.random.default_rng([width, seed]).random(EXAMPLES) < 0.7


def train(config, run):
    correct = right(config["width"], run.seed)
    run.use_data(train=[1, 2], evaluation=[3])
    run.save_predictions(
        top1=correct, top2=correct.astype(float), rank=np.arange(EXAMPLES), scores=np.eye(EXAMPLES)
    )
    run.save_weights({"w": np.full(3, config["width"], float)})
    return {"top1": float(correct.mean()), "loss": 1 / 3 + run.seed, "rank": 2.0}


def train_in_other_words(config, run):
    """The same results from other code."""
    result = train(config, run)
    return result


def make_study(*, width=16, fn=train, **changed):
    arguments = {
        "train": fn, "baseline": {"width": width, "rate": 0.1, "limit": math.inf},
        "variants": [Variant("narrow", width=8), Variant("also_narrow", width=8),
                     Variant("wide", against="narrow", width=32)],
        "metrics": ["top1", "loss", "rank"], "gate": ["top1", "rank"], "lower_is_better": ["loss"],
        "margin": {"loss": 0.25}, "quick": Mode(seeds=3, epochs=2),
    } | changed  # fmt: skip
    return Study("parts", **arguments)


def session(study, folder, *, rows=None, skip=(), mode="quick", seeds=None, session="session"):
    """What a session leaves: results from the records of its store, and the store."""
    store = Store(folder)
    store.prepare()
    names = rows or list(study.case_rows)
    cases = [(name, CaseSpec(study, name, mode)) for name in names]
    plan, specs = Planner(session, seeds, "cpu", None).plan(cases)
    records = {}
    for key, spec in specs.items():
        if spec.label.partition(" ")[2] in skip:
            continue
        run = Run(seed=spec.seed, mode=spec.mode, device="cpu")
        metrics = spec.train(spec.config, run)
        config = plain_values(spec.config)
        record = run.finish(metrics, key=key, mode_name=mode, config=config)
        store.put(record.key, files_of(record, run.predictions))
        records[key] = store.read(key)
    return study_result(only_study(plan), records, {}), store


def reference_in(folder, study=None, **wishes):
    result, store = session(study or make_study(), folder / "store", **wishes)
    return reference_of([result], store.predictions, folder)


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
