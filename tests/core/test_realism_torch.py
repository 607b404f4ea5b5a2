"""Coverage and Fréchet distance against torch, in float64."""

import numpy as np
import pytest

from delt_jax.core.realism import coverage, frechet_distance

torch = pytest.importorskip("torch")


def test_against_torch():
    rng = np.random.default_rng(4)
    ours, real = rng.normal(0.5, 1, (60, 8)), rng.normal(0, 1.5, (80, 8))
    a, b = torch.from_numpy(ours), torch.from_numpy(real)
    eigenvalues = torch.linalg.eigvals(torch.cov(a.T) @ torch.cov(b.T))
    expected = (a.mean(0) - b.mean(0)).square().sum()
    expected += torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * eigenvalues.real.sqrt().sum()
    assert frechet_distance(ours, real) == pytest.approx(expected.item(), rel=1e-10)

    radii = torch.cdist(b, b, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(6, dim=1).values
    covered = (torch.cdist(b, a).min(dim=1).values < radii).double().mean()
    shares, _ = coverage(ours, np.zeros(60, int), real, np.zeros(80, int), 1)
    assert shares[0] == pytest.approx(covered.item())
    assert 0 < shares[0] < 1
