"""How should a Transformer text classifier know where in the text a word stands?

Four positional encodings and none, on top-1 accuracy on held-out news, seed by seed.
"""

import os

from test_transformer_grid import QUICK

from models.transformer import config_for, corpus_in, data_digest, train_classifier
from pytest_ablation import Mode, Study, Variant

study = Study(
    "transformer-positional",
    description="A Transformer classifier of news by its positional encoding.",
    train=train_classifier,
    data=data_digest,
    baseline_name="sinusoidal",
    baseline=config_for(corpus_in(os.environ.get("ABLATION_DATA"))),
    metrics=["top1", "top2", "validation_top1"],
    also=["top2"],
    variants=[
        Variant(
            "learned",
            positional_encoding="learned",
            description="A trained vector per position, added to the word's (Gehring et al. 2017; "
            "Devlin et al. 2019).",
        ),
        Variant(
            "rotary",
            positional_encoding="rotary",
            description="Queries and keys are turned by an angle that grows with the position, so "
            "that attention sees distances (RoPE, Su et al. 2021).",
        ),
        Variant(
            "alibi",
            positional_encoding="alibi",
            description="Attention to a word is lowered in proportion to its distance, head by "
            "head (ALiBi, Press et al. 2022; here in both directions).",
        ),
        Variant(
            "none",
            positional_encoding=None,
            description="No positional encoding: the text becomes a bag of words "
            "(Vaswani et al. 2017, section 3.5).",
        ),
    ],
    quick=Mode(seeds=3, config=QUICK, epochs=4, train_rows=800),
    full=Mode(seeds=5, epochs=10, patience=2),
)


@study.cases
def test_positional(ablation):
    ablation.run()
    assert ablation.delta("top1").value > -0.50
