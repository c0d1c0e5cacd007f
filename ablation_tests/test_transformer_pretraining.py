"""What is pretraining worth to a text classifier?

The Transformer trained from scratch, against a pretrained sentence encoder (the packaged MiniLM)
with a new head, frozen or fine-tuned, on the same texts in the same order.
"""

import os

from test_transformer_grid import QUICK

from models.pretrained import DEFAULT_ENCODER
from models.transformer import config_for, corpus_in, data_digest, train_classifier
from pytest_ablation import Mode, Study, Variant

ENCODER = os.environ.get("ABLATION_ENCODER", DEFAULT_ENCODER)

study = Study(
    "transformer-pretraining",
    description="A classifier of news from scratch, and on a pretrained encoder.",
    train=train_classifier,
    data=data_digest,
    baseline_name="from_scratch",
    baseline=config_for(corpus_in(os.environ.get("ABLATION_DATA"))),
    metrics=["top1", "top2", "validation_top1"],
    also=["top2"],
    cost_figure=True,
    variants=[
        Variant(
            "frozen",
            encoder=ENCODER,
            learning_rate=2e-2,  # a single layer bears more, and needs it
            description="A linear head over the mean-pooled outputs of a frozen MiniLM, trained at "
            "a rate that suits it (Reimers and Gurevych 2019; Wang et al. 2020); the encoder's own "
            "cost is not counted.",
        ),
        Variant(
            "fine_tuned",
            encoder=ENCODER,
            fine_tune=True,
            description="The same encoder trained with the head, at a lower rate "
            "(Devlin et al. 2019, section 4).",
        ),
    ],
    quick=Mode(seeds=3, config={**QUICK, "max_length": 24}, epochs=2, train_rows=240),
    full=Mode(seeds=5, epochs=10, patience=2),
)


@study.cases
def test_pretraining(ablation):
    ablation.run()
    assert ablation.delta("top1").value > -0.30
