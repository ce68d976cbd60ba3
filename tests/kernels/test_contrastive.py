"""The contrastive loss: the definition, its gradient, and strips that do not show."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from c4c.core.errors import C4CError
from c4c.kernels import contrastive_loss
from c4c.kernels.contrastive import op as module
from c4c.kernels.contrastive.naive import contrastive_loss_reference


def pairs(batch, dim, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    text = normalize(torch.randn(batch, dim, dtype=torch.float64, generator=generator), dim=1)
    video = normalize(torch.randn(batch, dim, dtype=torch.float64, generator=generator), dim=1)
    return text.to(dtype), video.to(dtype)


def test_one_pair_has_no_loss_and_equal_pairs_have_log_batch():
    one = torch.ones(1, 1)
    assert contrastive_loss(one, one, 100.0).item() == 0
    same = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    assert contrastive_loss(same, same, 10.0).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize(("batch", "dim"), [(2, 3), (7, 16), (33, 5), (130, 64)])
@pytest.mark.parametrize("strip", [1, 50, 1 << 20])
def test_equals_the_definition_whatever_the_strips(monkeypatch, batch, dim, strip):
    monkeypatch.setattr(module, "STRIP", strip)
    text, video = pairs(batch, dim)
    scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)
    inputs = (text.requires_grad_(), video.requires_grad_(), scale)
    got = torch.autograd.grad(contrastive_loss(*inputs), inputs)
    expected = torch.autograd.grad(contrastive_loss_reference(*inputs), inputs)
    torch.testing.assert_close(contrastive_loss(*inputs), contrastive_loss_reference(*inputs))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_gradient_by_finite_differences():
    text, video = pairs(5, 4)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        contrastive_loss, (text.requires_grad_(), video.requires_grad_(), scale)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precisions_come_close(dtype):
    text, video = pairs(50, 32, dtype)
    got = contrastive_loss(text, video, 100.0)
    expected = contrastive_loss_reference(text.double(), video.double(), 100.0)
    # The inputs are rounded before either sees them; sums are in float32.
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_large_scales_do_not_overflow():
    text, video = pairs(6, 8, torch.float32)
    text.requires_grad_()
    loss = contrastive_loss(text, video, 1e4)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(text.grad).all()


def test_errors_name_the_argument():
    with pytest.raises(C4CError, match="shapes of text and video"):
        contrastive_loss(torch.ones(2, 3), torch.ones(3, 3), 1.0)
    with pytest.raises(C4CError, match="dtypes of text and video"):
        contrastive_loss(torch.ones(2, 3), torch.ones(2, 3).half(), 1.0)
    with pytest.raises(C4CError, match="empty"):
        contrastive_loss(torch.ones(0, 3), torch.ones(0, 3), 1.0)


def test_the_operator_obeys_torch_library():
    text, video = pairs(4, 3, torch.float32)
    inputs = (text.requires_grad_(), video.requires_grad_(), torch.tensor(2.0, requires_grad=True))
    torch.library.opcheck(torch.ops.c4c.contrastive_loss.default, inputs)


def test_products_of_halves_are_in_float32_whether_or_not_torch_makes_them_so():
    """On a CPU it does not, and halves are widened first; the meta device stands for a GPU."""
    gpu = pytest.importorskip("c4c.kernels.contrastive.triton")
    one, other = (torch.randn(3, 5).half() for _ in range(2))
    assert not gpu.sums_wide(torch.device("cpu"))
    assert gpu._product(one, other.T).equal(one.float() @ other.float().T)
    assert gpu.sums_wide(torch.device("meta"))
    far = gpu._product(one.to("meta"), other.to("meta").T)
    assert (far.dtype, far.shape) == (torch.float32, (3, 3))
