"""Which component of a small Transformer text classifier earns its keep?

Six components are taken out or tamed, one at a time, and top-1 accuracy on held-out news (AG News,
where --ablation-data holds it; else BBC News) is compared with the whole model's, seed by seed. In
full mode the whole model is the best cell of the grid in test_transformer_grid.py.
"""

import os

from test_transformer_grid import QUICK, grid

from models.transformer import ABLATIONS, config_for, corpus_in, data_digest, train_classifier
from pytest_ablation import Mode, Study, Variant

study = Study(
    "transformer-components",
    description="A Transformer classifier of news, one component at a time.",
    train=train_classifier,
    data=data_digest,
    baseline=config_for(corpus_in(os.environ.get("ABLATION_DATA"))),
    metrics=["top1", "top2", "validation_top1"],
    also=["top2"],
    variants=[
        Variant(name, ablation.changes, description=ablation.description)
        for name, ablation in ABLATIONS.items()
    ],
    quick=Mode(seeds=3, config=QUICK, epochs=4, train_rows=800),
    full=Mode(seeds=5, config=grid.best(), epochs=10, patience=2),
)


@study.cases
def test_components(ablation):
    ablation.run()
    # Guessing would lose more: a drop near that is a broken model, not an ablation.
    assert ablation.delta("top1").value > -0.50
