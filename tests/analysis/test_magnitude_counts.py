"""Log-spaced counts against the sorted numbers."""

import numpy as np
import pytest

from roicli.analysis.compare.magnitudes import MagnitudeCounts


@pytest.mark.parametrize("size", [1.0, 1e290, 1e-290, 1e-312])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_quantiles_are_never_too_small_and_at_most_one_128th_too_large(
    share: float, size: float
) -> None:
    values = np.abs(np.random.default_rng(0).normal(size=5000)) ** 9 * size
    values[:700] = 0
    counts = MagnitudeCounts()
    for part in np.array_split(values, 7):
        counts.add(part)
    exact = np.quantile(values, share, method="inverted_cdf")
    assert exact <= counts.quantile(share) <= exact * (1 + 1 / 128)
    assert counts.quantile(1.0) == values.max()


def test_decades() -> None:
    counts = MagnitudeCounts()
    counts.add(np.array([0.0, 0.0, 0.5, 0.002, 0.003, 7e300, 1e-300]))
    found = {(b.lower, b.upper): b.count for b in counts.decades() if b.count}
    assert found == {
        (0.0, 0.0): 2,
        (1e-30, 1e-29): 1,
        (0.001, 0.01): 2,
        (0.1, 1.0): 1,
        (1e30, 1e31): 1,
    }
    assert sum(b.count for b in counts.decades()) == 7


def test_nothing_counted() -> None:
    counts = MagnitudeCounts()
    counts.add(np.empty(0))
    assert counts.decades() == ()
    assert counts.quantile(0.99) == 0.0
