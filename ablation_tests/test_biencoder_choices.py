"""What of the training of a retrieval head matters: its negatives, its loss, its two sides?

One choice at a time is made otherwise, in the head with LayerNorm and ReLU. On ArguAna the last
variant leaves out what nobody should train on, and shows what that was worth: the training pairs
that the test split repeats word for word.
"""

import os

from models.biencoder import config_for, corpus_in, data_digest, metric_names, train_biencoder
from pytest_ablation import Mode, Study, Variant

corpus = corpus_in(os.environ.get("ABLATION_DATA"))
encoder = {"encoder": name} if (name := os.environ.get("ABLATION_ENCODER")) else {}

without_known_pairs = Variant(
    "without_known_pairs",
    known_pairs=False,
    allow_different=["train_data", "batch_order", "steps"],
    description="Training pairs that validation or test hold too, word for word, are left out.",
)

study = Study(
    "biencoder-choices",
    description="How the retrieval head with LayerNorm and ReLU is trained.",
    train=train_biencoder,
    data=data_digest,
    baseline=config_for(corpus, layernorm=True, relu=True, **encoder),
    metrics=metric_names(corpus),
    also={
        "arguana": ["reranked_epa_top1", "unseen_epa_top1", "unseen_reranked_epa_top1"],
        "bbc_news": ["top5", "top10", "mrr", "reranked_top1"],
    }[corpus],
    variants=[
        Variant(
            "random_negatives",
            random_negatives=1.0,
            random_decay=0.0,
            description="Negatives drawn from all candidates, in all epochs.",
        ),
        Variant(
            "hard_negatives",
            random_negatives=0.0,
            description="Negatives drawn from the ten nearest candidates, from the first epoch on "
            "(Shi, Cao and Nguyen 2023).",
        ),
        Variant(
            "contrastive",
            triplet_weight=0.0,
            contrastive_weight=1.0,
            description="In-batch contrastive loss in place of the triplets (multiple negatives "
            "ranking, Henderson et al. 2017).",
        ),
        Variant(
            "separate_heads",
            shared=False,
            description="A head for points and another one for what answers them.",
        ),
        Variant(
            "fusion_encoder",
            fusion="encoder",
            description="The pair classifier sees the encoder's output, not the projected one.",
        ),
        Variant(
            "fusion_both",
            fusion="both",
            description="The pair classifier sees the encoder's output and the projected one.",
        ),
        *([without_known_pairs] if corpus == "arguana" else []),
    ],
    full=Mode(seeds=3, epochs=60, patience=15),
)


@study.cases
def test_choices(ablation):
    ablation.run()
    assert ablation.delta().value > -0.50
