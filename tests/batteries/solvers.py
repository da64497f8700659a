"""Hard inputs for the fast solver and the fast heads, and the plain results they must have.

Every input is exact in float32, so that the plain
solver in float64 is the oracle of either precision.
"""

import copy
import math

import torch

from alpha_sv.functional.plain import plain_loss
from alpha_sv.functional.solver import COUNTS
from alpha_sv.heads import CosineHead, SparseHead

ORDERS = [1.02, 1.05, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0]
CLASSES = [1, 2, 63, 64, 65, 255, 256, 257, 300, 1000, 5994]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random_logits(rows, classes, seed=0, spread=1.0):
    return (spread * torch.randn(rows, classes, generator=generator(seed))).double()


def targets_everywhere(rows, classes, seed=0):
    """Labels with the first class and the last, which may be in a smaller group, among them."""
    target = torch.randint(classes, (rows,), generator=generator(seed + 1))
    target[0], target[-1] = classes - 1, 0
    return target


def hard_logits(classes, rows=3, seed=0):
    """(logits, target), twelve times `rows` of them:
    scales, ties, impossible classes, far from zero."""
    x = random_logits(rows, classes, seed)
    impossible = 3 * x
    impossible[torch.rand(x.shape, generator=generator(seed + 2)) < 0.5] = -math.inf
    impossible[:, classes // 2] = 0.5
    grid = (3 * x * 64).round() / 64  # exact in float32 also 65536 further off
    cases = [
        *(x * scale for scale in (2.0**-20, 0.125, 1, 5, 64, 1024)),
        x.round(),
        torch.zeros_like(x),
        impossible,
        *(grid + shift for shift in (4096, -4096, 65536)),
    ]
    targets = [targets_everywhere(rows, classes, seed + i) for i in range(len(cases))]
    return torch.cat(cases).float().double(), torch.cat(targets)


def hard_measures(classes, rows=3, seed=0):
    """(logits, target, ln q), six times `rows` of them:
    the target's alone, from e^3 to e^{−70}; everyone's."""
    logits, target = 3 * random_logits(rows, classes, seed), targets_everywhere(rows, classes, seed)
    at_target = [torch.zeros_like(logits).scatter(1, target[:, None], value) for value in (3.0, -2.0, -20.0, -70.0)]
    noise = random_logits(rows, classes, seed + 3)
    measures = [*at_target, noise, -10 * noise.abs()]
    return logits.float().double().repeat(len(measures), 1), target.repeat(len(measures)), torch.cat(measures)


def assert_solved(loss, logits, target, alpha, log_q=None):
    """`loss(logits)` [N] and its gradient, in either precision, are the plain ones in float64."""
    plain = logits.clone().requires_grad_()
    expected = plain_loss(plain, target, alpha, log_q)
    expected.sum().backward()
    size, finite = 1 + expected.detach().abs(), expected.isfinite()
    if log_q is not None:  # the value is what two terms of the size of the vertex term leave
        size = size + torch.exp((1 - alpha) * log_q.gather(1, target[:, None]).squeeze(1)) / (alpha - 1)
    for dtype, tolerance in TOLERANCE.items():
        tolerance *= 1 + logits.shape[1] / 1000  # a sum of C numbers, one after the other
        fast = logits.detach().to(dtype, copy=True).requires_grad_()
        value = loss(fast)
        value.sum().backward()
        assert value.dtype == dtype and torch.equal(value.isfinite(), finite)
        assert ((value.double() - expected).abs() <= tolerance * size)[finite].all()
        torch.testing.assert_close(fast.grad.double(), plain.grad, rtol=0, atol=tolerance)


class counting:
    """How many solves inside the block fell back to the plain solver."""

    def __enter__(self):
        self._before = dict(COUNTS)
        return self

    def __exit__(self, *exception):
        self.solves, self.fallbacks = (COUNTS[name] - self._before[name] for name in ("solves", "fallbacks"))


def twin_heads(dim, classes, loss, dtype=torch.float64, seed=0):
    """A dense and a sparse head with the same prototypes, whose norms differ."""
    dense = CosineHead(dim, classes, loss)
    lengths = torch.exp(2 * torch.randn(classes, 1, generator=generator(seed + 5)))
    dense.weight.data = (torch.randn(classes, dim, generator=generator(seed + 4)) * lengths).to(dtype)
    sparse = SparseHead(dim, classes, copy.deepcopy(loss))
    sparse.weight.data = dense.weight.data.clone()
    return dense, sparse


def speech(rows, head, seed=0, noise=0.5):
    """Embeddings that lie near the prototypes of their labels, and the labels, with repeats."""
    classes, dim = head.weight.shape
    labels = torch.randint(classes, (rows,), generator=generator(seed + 6))
    labels[0], labels[-1] = classes - 1, 0
    if rows > 2:
        labels[1] = labels[0]
    centre = torch.nn.functional.normalize(head.weight.detach()[labels])
    jitter = torch.randn(rows, dim, generator=generator(seed + 7)).to(centre) / dim**0.5
    return centre + noise * jitter, labels


def value_and_gradients(head, embeddings, labels, dtype=torch.float64):
    """(loss, ∂embeddings, ∂weight), dense and in float64."""
    embeddings = embeddings.detach().to(dtype).requires_grad_()
    head.zero_grad()
    loss = head(embeddings, labels)
    loss.backward()
    weight = head.weight.grad
    return (
        loss.detach().double(),
        embeddings.grad.double(),
        (weight.to_dense() if weight.is_sparse else weight).double(),
    )
