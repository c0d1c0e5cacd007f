"""Do LayerNorm and ReLU on the encoder's output help a retrieval head, and do they need each other?

A 2x2 design on a bi-encoder that finds the body of a BBC News article by its headline: both added
to a plain head, and each taken away from the head that has both.
"""

import os

from models.biencoder import BiEncoderConfig, data_digest, train_biencoder
from pytest_ablation import Mode, Study, Variant

encoder = {"encoder": name} if (name := os.environ.get("ABLATION_ENCODER")) else {}

study = Study(
    "biencoder-normalization",
    description="LayerNorm and ReLU between a frozen encoder and its retrieval head, "
    "headline to article body.",
    train=train_biencoder,
    data=data_digest,
    baseline_name="plain",
    baseline=BiEncoderConfig(**encoder),
    metrics=["top1", "top5", "top10"],
    variants=[
        Variant(
            "with_layernorm",
            layernorm=True,
            description="LayerNorm on the encoder output (Ba, Kiros and Hinton 2016).",
        ),
        Variant(
            "with_relu",
            relu=True,
            description="ReLU on the encoder output: negative coordinates are dropped.",
        ),
        Variant(
            "with_layernorm_relu",
            layernorm=True,
            relu=True,
            description="LayerNorm, then ReLU, on the encoder output.",
        ),
        Variant(
            "without_layernorm",
            against="with_layernorm_relu",
            layernorm=False,
            description="LayerNorm taken away from the head that has both.",
        ),
        Variant(
            "without_relu",
            against="with_layernorm_relu",
            relu=False,
            description="ReLU taken away from the head that has both.",
        ),
    ],
    quick=Mode(seeds=3, epochs=10),
    full=Mode(seeds=5, epochs=30),
)


@study.cases
def test_normalization(ablation):
    ablation.run()
    # A head that loses this much has not learned to retrieve at all.
    assert ablation.delta("top1").low > -0.30
