import pytest
import torch

from sam_ft.ops.blocks import sum_over_blocks


@pytest.mark.parametrize("size", [1, 2, 5])
def test_gradients_equal_autograd(size):
    layer, unused = torch.nn.Linear(4, 3), torch.nn.Parameter(torch.ones(2))
    x = torch.randn(5, 4, requires_grad=True)
    frozen = torch.randn(5, 3)

    def block_loss(start, x, frozen):
        part = slice(start, start + size)
        loss = (layer(x[part]) * frozen[part]).square().sum()
        return loss, loss.detach()

    loss, extras = sum_over_blocks(block_loss, range(0, 5, size), (x, frozen), [*layer.parameters(), unused])
    (3 * loss).backward()
    gradients = [p.grad.clone() for p in (x, layer.weight, layer.bias)]
    assert torch.equal(unused.grad, torch.zeros(2))  # an unused parameter also has a gradient
    x.grad = layer.weight.grad = layer.bias.grad = None
    (3 * (layer(x) * frozen).square().sum()).backward()
    for gradient, expected in zip(gradients, (x.grad, layer.weight.grad, layer.bias.grad), strict=True):
        torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(sum(extras), loss.detach())


def test_nested_sums():
    x = torch.randn(6, requires_grad=True)

    def inner(i, x):
        return (x[i] ** 3).sum(), None

    def outer(start, x):
        y = 2 * x
        loss, _ = sum_over_blocks(inner, range(start, start + 3), (y,))
        return loss, None

    loss, _ = sum_over_blocks(outer, (0, 3), (x,))
    loss.backward()
    torch.testing.assert_close(x.grad, 24 * x.detach() ** 2)


def test_without_blocks_and_without_gradient():
    x = torch.randn(3, requires_grad=True)
    loss, extras = sum_over_blocks(lambda i, x: (x.sum(), i), (), (x,))
    loss.backward()
    assert loss.item() == 0
    assert extras == []
    assert torch.equal(x.grad, torch.zeros(3))
    with torch.no_grad():
        loss, extras = sum_over_blocks(lambda i, x: (x[i], (i, torch.is_grad_enabled())), range(3), (x,))
    torch.testing.assert_close(loss, x.detach().sum())
    assert extras == [(0, False), (1, False), (2, False)]  # no activations are stored for a backward pass
