"""Packed words against padded texts, and the CPU's attention against torch's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=40)
CPU = "cpu"


@settings(max_examples=30)
@given(LENGTHS)
def test_words_are_packed_text_after_text_and_filled_up_with_zeros(lengths):
    import torch

    from models.transformer.packing import Packing

    packing = Packing(np.array(lengths), torch.device(CPU))
    tokens = torch.arange(1, len(lengths) * 9 + 1).view(len(lengths), 9)
    expected = [tokens[text, :length] for text, length in enumerate(lengths)]
    packed = packing.pack(tokens)
    assert torch.equal(packed[: packing.words], torch.cat(expected))
    assert not packed[packing.words :].any()
    assert packing.positions[: packing.words].tolist() == [i for n in lengths for i in range(n)]
    assert len(packed) == len(packing.positions) == packing.rows


@settings(max_examples=30)
@given(LENGTHS)
def test_the_mean_of_a_text_is_that_of_its_words_alone(lengths):
    import torch

    from models.transformer.packing import Packing

    packing = Packing(np.array(lengths), torch.device(CPU))
    x = torch.randn(packing.rows, 3, generator=torch.Generator().manual_seed(0))
    expected = [text.mean(dim=0) for text in x[: packing.words].split(lengths)]
    torch.testing.assert_close(packing.mean_by_text(x), torch.stack(expected))


@settings(max_examples=30)
@given(LENGTHS)
def test_padding_a_group_and_taking_it_back_changes_nothing(lengths):
    import torch

    from models.transformer.packing import Packing

    whole = Packing(np.array(lengths), torch.device(CPU)).whole
    x = torch.randn(whole.words, 2, generator=torch.Generator().manual_seed(0))
    padded = whole.pad(x).view(len(lengths), max(lengths), 2)
    for row, text, length in zip(padded, x.split(lengths), lengths, strict=True):
        assert torch.equal(row[:length], text)
        assert not row[length:].any()
    assert torch.equal(whole.unpad(padded), x)


def test_batches_of_many_sizes_give_few_shapes():
    import torch

    from models.transformer.packing import Packing

    rows = {Packing(np.array([words]), torch.device(CPU)).rows for words in range(1, 641)}
    assert len(rows) == 10
    assert all(Packing(np.array([n]), torch.device(CPU)).rows >= n for n in (1, 63, 64, 65))


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("lengths", [[5] * 4, [7, 1, 3], list(range(1, 10)) * 4], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_attention_and_its_gradient_are_those_of_torch_text_by_text(
    lengths, has_bias, dtype, tolerance
):
    import torch

    from models.transformer.cpu_attention import CPUAttention
    from models.transformer.packing import Packing
    from models.transformer.positions import alibi_bias

    dtype = getattr(torch, dtype)
    table = alibi_bias(2, max(lengths)) if has_bias else None
    packing = Packing(np.array(lengths), torch.device(CPU), table)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(packing.rows, 3 * 8, generator=generator).to(dtype).requires_grad_()
    weights = torch.randn(packing.rows, 8, generator=generator).to(dtype)
    expected = []
    for text in qkv[: packing.words].split(lengths):
        query, key, value = text.view(len(text), 3, 2, 4).permute(1, 2, 0, 3)
        bias = None if table is None else table[:, : len(text), : len(text)].to(dtype)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=None if bias is None else bias[None]
        )
        expected.append(mixed[0].transpose(0, 1).flatten(1))
    expected = packing.fill_up(torch.cat(expected))
    found = CPUAttention.apply(qkv, packing, 2)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    (one,) = torch.autograd.grad((found * weights).sum(), qkv)
    (other,) = torch.autograd.grad((expected * weights).sum(), qkv)
    torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
