"""Which component of a small Transformer text classifier earns its keep?

Six components are taken out or tamed, one at a time, and top-1 and top-2 accuracy on held-out BBC
News articles is compared with the whole model's, seed by seed.
"""

from models.transformer import TransformerConfig, data_digest, train_classifier
from pytest_ablation import Mode, Study, Variant

study = Study(
    "transformer-components",
    description="A Transformer classifier of BBC News articles, one component at a time.",
    train=train_classifier,
    data=data_digest,
    baseline=TransformerConfig(),
    metrics=["top1", "top2"],
    variants=[
        Variant(
            "no_pe",
            positional_encoding=None,
            description="No positional encoding: the text becomes a bag of words "
            "(Vaswani et al. 2017, section 3.5).",
        ),
        Variant(
            "single_head",
            num_heads=1,
            description="One attention head as wide as all heads together "
            "(Vaswani et al. 2017, table 3, row A).",
        ),
        Variant(
            "no_ffn",
            ffn_dim=None,
            description="Blocks of attention only, without the feed-forward sub-layer "
            "(Vaswani et al. 2017, section 3.3).",
        ),
        Variant(
            "freeze_emb",
            train_embeddings=False,
            description="Word embeddings stay as they were initialised (random).",
        ),
        Variant(
            "no_dropout",
            dropout=0.0,
            description="No dropout anywhere (Srivastava et al. 2014).",
        ),
        Variant(
            "clip_grad",
            grad_clip_norm=1.0,
            description="Gradients are scaled down to norm 1 "
            "(Pascanu, Mikolov and Bengio 2013, algorithm 1).",
        ),
    ],
    quick=Mode(seeds=3, epochs=3),
    full=Mode(seeds=5, epochs=10),
)


@study.cases
def test_components(ablation):
    ablation.run()
    # Guessing would lose 0.7: a drop near that is a broken model, not an ablation.
    assert ablation.delta("top1").low > -0.50
