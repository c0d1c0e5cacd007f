"""The losses against loops in plain Python, and the head against its closed form."""

import math
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from models.biencoder import BiEncoderConfig

WIDTH, EMBED_DIM = 6, 4
RUN = SimpleNamespace(seed_for=lambda purpose: sum(purpose.encode()), device="cpu")
PAIRS = 5


@pytest.fixture(params=[1, 3], ids=["one negative", "three negatives"])
def negatives(request):
    return request.param


def make_model(**changes):
    from models.biencoder.model import BiEncoder

    config = BiEncoderConfig(embed_dim=EMBED_DIM, **changes)
    return BiEncoder(config, RUN, WIDTH).eval()


def embedded(rows, seed):
    import torch

    from models.biencoder.model import Embedded

    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(rows, EMBED_DIM, generator=generator)
    return Embedded(embeddings, torch.randn(rows, EMBED_DIM, generator=generator))


def sides(negatives):
    return embedded(PAIRS, 0), embedded(PAIRS, 1), embedded(PAIRS * negatives, 2)


def rows_of(tensor):
    return np.asarray(tensor.detach(), dtype=float)


def triplet_by_hand(queries, answers, negatives, margin):
    queries, answers, negatives = (rows_of(x.embeddings) for x in (queries, answers, negatives))
    per_query = len(negatives) // len(queries)
    losses = []
    for i, j in product(range(len(queries)), range(per_query)):
        near = math.dist(queries[i], answers[i])
        far = math.dist(queries[i], negatives[i * per_query + j])
        losses.append(max(0.0, near - far + margin))
    return np.mean(losses)


def contrastive_by_hand(queries, answers, negatives, scale):
    queries, answers, negatives = (rows_of(x.embeddings) for x in (queries, answers, negatives))
    losses = []
    for i, query in enumerate(queries):
        cosines = [
            query @ other / math.hypot(*query) / math.hypot(*other)
            for other in (*answers, *negatives)
        ]
        chances = np.exp(scale * np.array(cosines))
        losses.append(-math.log(chances[i] / chances.sum()))
    return np.mean(losses)


def pair_by_hand(model, queries, answers, negatives):
    queries, answers, negatives = (rows_of(x.features) for x in (queries, answers, negatives))
    weight, bias = rows_of(model.pair_classifier.weight), rows_of(model.pair_classifier.bias)
    per_query = len(negatives) // len(queries)

    def surprise(a, b, is_pair):
        chances = np.exp(weight @ np.concatenate([a, b, abs(a - b)]) + bias)
        return -math.log(chances[is_pair] / chances.sum())

    pairs = [surprise(a, b, 1) for a, b in zip(queries, answers, strict=True)]
    none = [surprise(queries[j // per_query], other, 0) for j, other in enumerate(negatives)]
    return np.mean(pairs) + np.mean(none)


@pytest.mark.parametrize("margin", [0.1, 1.0, 4.0])
def test_the_triplet_loss_equals_its_formula(negatives, margin):
    from models.biencoder.losses import triplet_loss

    given = sides(negatives)
    expected = triplet_by_hand(*given, margin)
    assert triplet_loss(*given, margin).item() == pytest.approx(expected, abs=1e-5)


def test_answers_that_are_nearer_by_the_margin_cost_nothing():
    from models.biencoder.losses import triplet_loss

    queries, _, negatives = sides(1)
    assert triplet_loss(queries, queries, negatives, 1e-3).item() == 0
    assert triplet_loss(queries, negatives, queries, 1e-3).item() > 1


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_the_contrastive_loss_equals_its_formula(negatives, scale):
    from models.biencoder.losses import contrastive_loss

    given = sides(negatives)
    expected = contrastive_by_hand(*given, scale)
    assert contrastive_loss(*given, scale).item() == pytest.approx(expected, rel=1e-4)


def test_the_pair_loss_equals_its_formula(negatives):
    from models.biencoder.losses import pair_loss

    model, given = make_model(), sides(negatives)
    expected = pair_by_hand(model, *given)
    assert pair_loss(model, *given).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [(0.7, 0.0, 0.0), (0, 0.2, 0), (0, 0, 3), (0.7, 0.2, 3.0)])
def test_the_loss_is_their_weighted_sum(negatives, weights):
    from models.biencoder.losses import loss_of

    names = ("triplet_weight", "contrastive_weight", "pair_weight")
    config = BiEncoderConfig(
        embed_dim=EMBED_DIM, triplet_margin=1.5, contrastive_scale=5.0, negatives=negatives,
        **dict(zip(names, weights, strict=True)),
    )  # fmt: skip
    model, given = make_model(), sides(negatives)
    parts = (
        triplet_by_hand(*given, 1.5), contrastive_by_hand(*given, 5.0), pair_by_hand(model, *given),
    )  # fmt: skip
    expected = np.dot(weights, parts)
    assert loss_of(model, config, *given).item() == pytest.approx(expected, abs=1e-4)


def test_a_loss_without_weight_gives_no_gradient():
    from models.biencoder.losses import loss_of

    model = make_model()
    config = BiEncoderConfig(embed_dim=EMBED_DIM, pair_weight=0)
    loss_of(model, config, *(through(model, x) for x in sides(1))).backward()
    assert model.head.projection.weight.grad.abs().sum() > 0
    assert model.pair_classifier.weight.grad is None


def through(model, x):
    """The same texts, by the model's head, so that gradients reach it."""
    import torch

    return model.head(torch.cat([x.embeddings, x.features[:, :2]], dim=1))


# --- what the losses are computed from --------------------------------------------------------


def test_the_head_is_layernorm_then_relu_then_linear():
    import torch

    model = make_model(layernorm=True, relu=True, fusion="both")
    head, x = model.head, torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.layernorm.weight.copy_(torch.linspace(0.5, 2, WIDTH))
        head.layernorm.bias.copy_(torch.linspace(-1, 1, WIDTH))
        head.projection.bias.copy_(torch.linspace(1, 2, EMBED_DIM))
        centred = x - x.mean(dim=1, keepdim=True)
        normal = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        activated = (normal * head.layernorm.weight + head.layernorm.bias).clamp(min=0)
        expected = activated @ head.projection.weight.T + head.projection.bias
        found = head(x)
    torch.testing.assert_close(found.embeddings, expected)
    torch.testing.assert_close(found.features, torch.cat([expected, activated], dim=1))


@pytest.mark.parametrize(
    ("fusion", "width"), [("projected", EMBED_DIM), ("encoder", WIDTH), ("both", WIDTH + EMBED_DIM)]
)
def test_fusion_chooses_what_the_classifier_sees(fusion, width):
    import torch

    model = make_model(fusion=fusion)
    x = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    queries, candidates = model(x, 2)
    assert queries.features.shape == (2, width)
    assert candidates.features.shape == (1, width)
    assert model.pair_classifier.weight.shape == (2, 3 * width)
    embeddings = model.head.projection(x)
    expected = {"projected": embeddings, "encoder": x, "both": torch.cat([embeddings, x], dim=1)}
    torch.testing.assert_close(torch.cat([queries.features, candidates.features]), expected[fusion])
    torch.testing.assert_close(torch.cat([queries.embeddings, candidates.embeddings]), embeddings)


@pytest.mark.parametrize("shared", [True, False])
def test_each_side_goes_through_its_own_head_unless_it_is_shared(shared):
    import torch

    model = make_model(shared=shared)
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.candidate_head.projection.bias += 1
        queries, candidates = model(x, 2)
    moved = model.head.projection.bias if shared else model.head.projection.bias + 1
    plain = x @ model.head.projection.weight.T
    torch.testing.assert_close(queries.embeddings, plain[:2] + model.head.projection.bias)
    torch.testing.assert_close(candidates.embeddings, plain[2:] + moved)


def test_the_variants_start_from_the_same_weights_where_shapes_agree():
    """Heads that are not shared start as copies of the one that is."""
    import torch

    states = [
        make_model(layernorm=layernorm, relu=relu, shared=shared).state_dict()
        for layernorm, relu, shared in product([False, True], repeat=3)
    ]
    common = ["projection.weight", "projection.bias"]
    for state in states:
        for name, side in product(common, ("head", "candidate_head")):
            assert torch.equal(state[f"{side}.{name}"], states[0][f"head.{name}"])
        assert torch.equal(state["pair_classifier.weight"], states[0]["pair_classifier.weight"])
    assert [len(state) for state in states] == [6, 6, 6, 6, 10, 10, 10, 10]
