"""The linear layer against the definition in float64, whoever multiplies."""

import pytest

SHAPES = [((5, 3), 7), ((40, 64), 16), ((2, 3, 8), 24), ((1, 1), 1), ((7, 6), 6)]


def layer_and_input(shape, width, bias=True, **how):
    import torch

    from models.linear import Linear

    generator = torch.Generator().manual_seed(0)
    layer = Linear(shape[-1], width, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(shape, generator=generator)
    return layer.to(**how), x.to(**how).requires_grad_()


def results(x, weight, bias, output):
    """The output, and the gradients of a weighted sum of it."""
    import torch

    weights = torch.arange(output.numel(), dtype=torch.float64).view(output.shape).cos()
    inputs = [t for t in (x, weight, bias) if t is not None and t.requires_grad]
    return [output, *torch.autograd.grad((output * weights.to(output.dtype)).sum(), inputs)]


def compared(layer, x, **tolerance):
    import torch

    found = results(x, layer.weight, layer.bias, layer(x))
    exact = [
        None if t is None else t.detach().double().requires_grad_(t.requires_grad)
        for t in (x, layer.weight, layer.bias)
    ]
    output = exact[0] @ exact[1].T + (0 if exact[2] is None else exact[2])
    for ours, expected in zip(found, results(*exact, output), strict=True):
        assert ours.shape == expected.shape
        torch.testing.assert_close(ours.double(), expected, **tolerance)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("shape", "width"), SHAPES, ids=str)
def test_output_and_gradients_are_those_of_the_definition(shape, width, bias):
    compared(*layer_and_input(shape, width, bias), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_precisions_are_multiplied_too(dtype):
    import torch

    dtype = getattr(torch, dtype)
    tolerance = 1e-9 if dtype == torch.float64 else 0.1
    layer, x = layer_and_input((40, 64), 16, dtype=dtype)
    assert layer(x).dtype == dtype
    compared(layer, x, atol=tolerance, rtol=tolerance)


def test_autocast_is_heeded():
    import torch

    layer, x = layer_and_input((40, 64), 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_what_needs_no_gradient_gets_none_and_the_others_are_right(frozen):
    layer, x = layer_and_input((6, 4), 5)
    {"x": x, "weight": layer.weight, "bias": layer.bias}[frozen].requires_grad_(False)
    compared(layer, x, atol=1e-4, rtol=1e-4)


def test_inputs_that_are_transposed_views_are_multiplied_as_they_are():
    import torch

    layer, x = layer_and_input((4, 6), 5)
    layer.weight = torch.nn.Parameter(torch.randn(5, 4))
    torch.testing.assert_close(layer(x.t()), x.t() @ layer.weight.T + layer.bias)


def test_the_same_product_has_the_same_bits():
    import torch

    layer, x = layer_and_input((300, 64), 128)
    first = results(x, layer.weight, layer.bias, layer(x))
    second = results(x, layer.weight, layer.bias, layer(x))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_parameters_are_those_of_torch_s_layer():
    import torch

    from models.linear import Linear

    torch.nn.Linear(4, 3).load_state_dict(Linear(4, 3).state_dict())


def test_second_derivatives_are_refused_rather_than_wrong():
    import torch

    layer, x = layer_and_input((6, 4), 5)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
