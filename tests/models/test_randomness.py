"""Generators by purpose, and initial weights by parameter name."""

import math

import pytest

from models.randomness import initialise, numpy_generator, torch_generator
from pytest_ablation.mode import Mode
from pytest_ablation.run import Run


def run(seed=0):
    return Run(seed=seed, mode=Mode(seeds=1, epochs=1), device="cpu")


def two_layers(with_norm=True):
    from torch import nn

    layers = {"first": nn.Linear(4, 6), "norm": nn.LayerNorm(6), "second": nn.Linear(6, 2)}
    return nn.ModuleDict({name: m for name, m in layers.items() if with_norm or name != "norm"})


def test_numpy_generator_depends_on_seed_and_purpose_alone():
    draw = lambda seed, purpose: numpy_generator(run(seed), purpose).random(4).tolist()  # noqa: E731
    assert draw(0, "order") == draw(0, "order")
    assert draw(0, "order") != draw(1, "order")
    assert draw(0, "order") != draw(0, "dropout")


def test_torch_generator_depends_on_seed_and_purpose_alone():
    import torch

    draw = lambda seed, purpose: torch.rand(4, generator=torch_generator(run(seed), purpose))  # noqa: E731
    assert torch.equal(draw(0, "a"), draw(0, "a"))
    assert not torch.equal(draw(0, "a"), draw(1, "a"))
    assert not torch.equal(draw(0, "a"), draw(0, "b"))


def test_initial_weights_do_not_depend_on_the_global_generator():
    import torch

    states = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        module = two_layers()
        initialise(module, run())
        states.append(module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_initialise_draws_nothing_from_the_global_generator():
    import torch

    module = two_layers()
    before = torch.get_rng_state()
    initialise(module, run())
    assert torch.equal(before, torch.get_rng_state())


def test_removing_a_component_leaves_the_initial_weights_of_the_others():
    import torch

    full, reduced = two_layers(), two_layers(with_norm=False)
    initialise(full, run())
    initialise(reduced, run())
    for name, value in reduced.state_dict().items():
        assert torch.equal(value, full.state_dict()[name]), name


def test_two_parameters_of_one_shape_start_differently_and_so_do_two_seeds():
    import torch
    from torch import nn

    first, second = (nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}) for _ in "12")
    initialise(first, run(0))
    initialise(second, run(1))
    assert not torch.equal(first["a"].weight, first["b"].weight)
    assert not torch.equal(first["a"].weight, second["a"].weight)


def test_matrices_follow_xavier_and_biases_are_zero():
    from torch import nn

    layer = nn.Linear(300, 100)
    initialise(layer, run())
    bound = math.sqrt(6 / 400)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=bound / 50)
    assert not layer.bias.any()


def test_norms_start_as_identity():
    from torch import nn

    norm = nn.LayerNorm(5)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    initialise(norm, run())
    assert norm.weight.tolist() == [1.0] * 5
    assert norm.bias.tolist() == [0.0] * 5


def test_word_vectors_have_unit_length_on_average_and_padding_is_zero():
    from torch import nn

    table = nn.Embedding(500, 64, padding_idx=0)
    nn.init.ones_(table.weight)
    initialise(table, run())
    assert not table.weight[0].any()
    squares = table.weight[1:].square().sum(dim=1)
    assert squares.mean().item() == pytest.approx(1, rel=0.05)


def test_other_scalars_keep_the_value_they_were_constructed_with():
    import torch
    from torch import nn

    module = nn.Module()
    module.log_temperature = nn.Parameter(torch.tensor(2.5))
    initialise(module, run())
    assert module.log_temperature.item() == 2.5


def test_tied_parameters_stay_tied():
    from torch import nn

    module = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    module["b"].weight = module["a"].weight
    alone = nn.ModuleDict({"a": nn.Linear(4, 4)})
    initialise(module, run())
    initialise(alone, run())
    assert module["b"].weight is module["a"].weight
    assert (module["a"].weight == alone["a"].weight).all()
