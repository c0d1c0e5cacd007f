"""Do LayerNorm and ReLU on the encoder's output help a retrieval head, and do they need each other?

A 2x2 design on a bi-encoder that finds the counter-argument to an argument (ArguAna, where
--ablation-data holds it; else the body of a BBC News article by its headline): both added to a
plain head, and each taken away from the head that has both.
"""

import os

from models.biencoder import config_for, corpus_in, data_digest, metric_names, train_biencoder
from pytest_ablation import MetricTable, Mode, Study, Variant

corpus = corpus_in(os.environ.get("ABLATION_DATA"))
encoder = {"encoder": name} if (name := os.environ.get("ABLATION_ENCODER")) else {}
tasks = ["sdoc", "sdoa", "sdc", "sda", "stc", "sta", "epc", "epa"]
figures = ["top1", "top5", "top10", "mrr"]

study = Study(
    "biencoder-normalization",
    description={
        "arguana": "LayerNorm and ReLU between a frozen encoder and its retrieval head, point to "
        "counter-argument. The overall figure is epa top-1: the right counter first among all "
        "arguments of the test split, before re-ranking.",
        "bbc_news": "LayerNorm and ReLU between a frozen encoder and its retrieval head, headline "
        "to article body.",
    }[corpus],
    train=train_biencoder,
    data=data_digest,
    baseline_name="plain",
    baseline=config_for(corpus, **encoder),
    metrics=metric_names(corpus),
    also={
        "arguana": ["reranked_epa_top1", "unseen_epa_top1", "unseen_reranked_epa_top1"],
        "bbc_news": ["top5", "top10", "mrr", "reranked_top1"],
    }[corpus],
    tables=[
        MetricTable("The eight retrieval tasks", rows=tasks, columns=figures),
        MetricTable(
            "The eight retrieval tasks, re-ranked",
            rows=tasks,
            columns=figures,
            metric="reranked_{row}_{column}",
        ),
    ]
    if corpus == "arguana"
    else [],
    factors=["layernorm", "relu"],
    sensitivity="learning_rate",
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
    # float32 on every processor: "auto" would make the committed reference one machine's own.
    quick=Mode(seeds=3, config={"encoder_precision": "float32"}, epochs=8, debates_share=0.2),
    full=Mode(seeds=5, epochs=200, patience=15),
)


@study.cases
def test_normalization(ablation):
    ablation.run()
    # A head that loses this much has not learned to retrieve at all.
    assert ablation.delta().value > -0.30
