"""Every way to compute: the full product of options, and a short table that covers it.

The quick tests have the table: in it every pair of RoI Align's options meets (an orthogonal array
of eight rows), and every rule word of RoI Pool is there. Where a test has the full product it is
marked ``full``.
"""

from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest

from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from tests.strategies import RULES

FLOAT_TYPES = (np.float32, np.float64)
RATIOS = (0, 1, 2, 3)
MODES = ("avg", "max")
GRIDS = ("quarters", "thirds")

ALIGN_TABLE = [
    # ratio, aligned, mode, grid, dtype
    (0, True, "avg", "quarters", np.float32),
    (0, False, "max", "thirds", np.float64),
    (1, True, "avg", "thirds", np.float64),
    (1, False, "max", "quarters", np.float32),
    (2, True, "max", "quarters", np.float64),
    (2, False, "avg", "thirds", np.float32),
    (3, True, "max", "thirds", np.float32),
    (3, False, "avg", "quarters", np.float64),
]
POOL_TABLE = [
    ("caffe", "overlap", np.float32),
    ("floor", "floor-size", np.float64),
    ("round", "disjoint", np.float32),
    ("hull", "overlap", np.float64),
    ("mmcv", "overlap", np.float32),
    ("caffe", "disjoint", np.float64),
    ("half-even", "overlap", np.float32),
]


def every_align(output_size, scale, ratios=RATIOS):
    """Every RoI Align there is."""
    ways = product(ratios, (True, False), MODES, GRIDS)
    return [AlignSpec(output_size, scale, *way) for way in ways]


def every_pool(output_size, scale):
    """Every RoI Pool there is."""
    return [PoolSpec(output_size, scale, *rule) for rule in RULES]


def table_of_aligns(output_size, scale):
    """(spec, dtype) of the table's RoI Aligns."""
    return [(AlignSpec(output_size, scale, *way), dtype) for *way, dtype in ALIGN_TABLE]


def table_of_pools(output_size, scale):
    """(spec, dtype) of the table's RoI Pools."""
    return [(PoolSpec(output_size, scale, *rule), dtype) for *rule, dtype in POOL_TABLE]


def table_of_options(output_size, scale):
    """(spec, dtype) of the whole table, fourteen rows."""
    return table_of_aligns(output_size, scale) + table_of_pools(output_size, scale)


def every_option(output_size, scale):
    """(spec, dtype) of the full product."""
    specs = every_align(output_size, scale) + every_pool(output_size, scale)
    return list(product(specs, FLOAT_TYPES))


def of_options(output_size, scale):
    """Parametrize ``cases``, each (spec, dtype): the table, and in test-all the full product."""
    table, product_ = table_of_options(output_size, scale), every_option(output_size, scale)
    marked = pytest.param(product_, id="product", marks=pytest.mark.full)
    return pytest.mark.parametrize("cases", [pytest.param(table, id="table"), marked])


def some(names, every, *quick, **options):
    """Parametrize ``names`` with the ``quick`` ones of the cases; the others are ``full``."""
    cases = list(every)
    assert all(case in cases for case in quick), "a case that there is not"
    return pytest.mark.parametrize(
        names,
        [pytest.param(*case, marks=() if case in quick else pytest.mark.full) for case in cases],
        **options,
    )


def need_numba():
    """Skip where nothing compiles kernels; to import Numba for the question takes a second."""
    if not find_spec("numba"):
        pytest.skip("Numba is not installed", allow_module_level=True)
