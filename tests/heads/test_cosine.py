import pytest
import torch
import torch.nn.functional as F

from alpha_sv.heads import CosineHead
from alpha_sv.losses import AAMSoftmax, QMargin


def test_head_is_loss_of_cosines_and_trains_both_sides():
    head = CosineHead(8, 5, QMargin())
    x, y = torch.randn(3, 8, requires_grad=True), torch.tensor([0, 4, 2])
    cosines = F.normalize(x) @ F.normalize(head.weight).T
    loss = head(x, y)
    torch.testing.assert_close(loss, QMargin()(cosines, y))
    assert torch.equal(loss, head(x.unsqueeze(1), y.unsqueeze(1)))
    loss.backward()
    assert x.grad.abs().sum() > 0 and head.weight.grad.abs().sum() > 0


def test_cosines_keep_float32_under_autocast():
    """bfloat16 cosines put 0.12 of rounding in a logit at s = 30 (the peers compute them under autocast)."""
    head, x = CosineHead(64, 10, AAMSoftmax(30)), torch.randn(4, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = F.linear(F.normalize(x), F.normalize(head.weight))
        inside = head.cosines(x)
    assert plain.dtype == torch.bfloat16, "else this test shows nothing"
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, head.cosines(x), rtol=0, atol=1e-6)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="num_classes must be >= 1"):
        CosineHead(8, 0)
    with pytest.raises(ValueError, match=r"\[0, 5\)"):
        CosineHead(8, 5)(torch.randn(2, 8), torch.tensor([0, 5]))
