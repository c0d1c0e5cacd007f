"""How many words of a text are worth reading, and how large should a batch be?

Sequence length and batch size, each against accuracy on held-out news and against its cost.
"""

import os

from test_transformer_grid import QUICK

from models.transformer import config_for, corpus_in, data_digest, train_classifier
from pytest_ablation import Mode, Study, Variant

study = Study(
    "transformer-budget",
    description="A Transformer classifier of news by how much it reads at a time.",
    train=train_classifier,
    data=data_digest,
    baseline_name="length_64_batch_64",
    baseline=config_for(corpus_in(os.environ.get("ABLATION_DATA")), max_length=64, batch_size=64),
    metrics=["top1", "top2", "validation_top1"],
    also=["top2"],
    cost_figure=True,
    variants=[
        *(
            Variant(
                f"length_{length}",
                max_length=length,
                description=f"The first {length} words of a text are read instead of 64: the cost "
                f"of attention grows with the square of the length (Vaswani et al. 2017, table 1).",
            )
            for length in (32, 128, 256)
        ),
        *(
            Variant(
                f"batch_{size}",
                batch_size=size,
                allow_different=["batch_order", "steps"],
                description=f"{size} texts per step instead of 64, at the same learning rate: "
                f"{'more and noisier' if size < 64 else 'fewer and steadier'} steps per epoch "
                f"(Keskar et al. 2017).",
            )
            for size in (16, 256)
        ),
    ],
    quick=Mode(
        seeds=3,
        config={**QUICK, "max_length": 64, "batch_size": 64},
        epochs=4,
        train_rows=800,
    ),
    full=Mode(seeds=5, epochs=10, patience=2),
)


@study.cases
def test_budget(ablation):
    ablation.run()
    assert ablation.delta("top1").value > -0.60  # few steps at a batch of 256 learn little
