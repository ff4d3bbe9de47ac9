"""The memory budget: what it is, how it is shared, when nothing fits."""

import builtins

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import ParameterError, ProviderError
from roicli.pipeline import memory
from roicli.pipeline.features import open_pyramid
from roicli.pipeline.memory import default_budget, plan_memory, resident_bytes
from roicli.storage import limits
from roicli.storage.limits import available_bytes
from tests.strategies import awkward_corners, normal_map

MIB = 1 << 20
ROW = 49 * 3 * 4


def pyramid(shape=(2, 3, 100, 100), dtype=np.float32):
    return open_pyramid(np.zeros(shape, dtype), (), (1.0,), lambda line: None)


def plan(budget, maps=None, rois=1000, row_bytes=ROW, with_values=False):
    return plan_memory(budget, maps or pyramid(), rois, row_bytes, with_values).block_bytes


def test_more_memory_gives_larger_blocks_up_to_a_limit():
    sizes = [plan(resident_bytes() + extra * MIB) for extra in (80, 100, 140, 1000, 9000)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    assert sizes[-2] == sizes[-1] == memory.LARGEST_BLOCK_BYTES


def test_values_larger_maps_and_more_rois_leave_less():
    budget = resident_bytes() + 110 * MIB
    alone = plan(budget)
    assert plan(budget, with_values=True) < alone
    assert plan(budget, pyramid((2, 3, 400, 400))) < alone
    assert plan(budget, pyramid(dtype=np.float16)) < alone  # stored and upcast
    assert plan(budget, rois=40_000) < alone


def test_what_is_planned_stays_under_the_budget():
    budget = resident_bytes() + 100 * MIB
    assert resident_bytes() + 4 * plan(budget) < budget


def test_the_budget_that_the_error_names_is_enough():
    with pytest.raises(ParameterError, match="but one image and one RoI need") as caught:
        plan(MIB)
    enough = int(str(caught.value.hint).split()[2].removesuffix("M"))
    assert plan((enough + 2) * MIB) >= ROW  # the process may have grown meanwhile


def test_the_system_tells_what_there_is():
    assert 10 * MIB < resident_bytes() < available_bytes() * 100
    assert default_budget() == pytest.approx(available_bytes() / 4, rel=0.3)


def test_without_proc_there_is_an_estimate(monkeypatch):
    def closed(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(builtins, "open", closed)
    found = resident_bytes(), available_bytes()
    monkeypatch.undo()
    assert found[0] == 96 * MIB
    assert found[1] >= available_bytes()


def test_a_small_budget_changes_no_bit():
    maps = normal_map((2, 3, 13, 17))
    corners = awkward_corners((13, 17), 1 / 16, 60, 0)
    rois = np.column_stack([np.arange(60) % 2, corners])
    options = {"spatial_scale": 1 / 16, "quantization": "hull"}
    budget = f"{(resident_bytes() >> 20) + 90}M"
    small = roicli.pool(maps, rois, max_memory=budget, **options)
    np.testing.assert_array_equal(
        small.roi_features, roicli.pool(maps, rois, **options).roi_features
    )


# --- what there is -----------------------------------------------------------------------------


def group(folder, names, limit, used, cached=0):
    """A control group's files; ``names`` as the version has them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nslab 9\n")


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Write what /proc/self/cgroup says, and give the folder that stands for /sys/fs/cgroup."""
    monkeypatch.setattr(limits, "GROUPS", str(tmp_path / "sys"))
    real = builtins.open

    def fake(path, *arguments, **options):
        return real(
            tmp_path / "self" if path == "/proc/self/cgroup" else path, *arguments, **options
        )

    monkeypatch.setattr(builtins, "open", fake)

    def write(text):
        (tmp_path / "self").write_text(text)
        return tmp_path / "sys"

    return write


def test_a_container_of_version_2_sets_the_limit(groups):
    root = groups("0::/job/step\n")
    group(root / "job" / "step", limits.GROUP_FILES[""], "max", 7 * MIB)
    assert available_bytes() > 64 * MIB
    group(root / "job", limits.GROUP_FILES[""], 64 * MIB, 40 * MIB, cached=8 * MIB)
    assert available_bytes() == 32 * MIB
    assert default_budget() == 8 * MIB
    group(root, limits.GROUP_FILES[""], 30 * MIB, 40 * MIB)
    assert available_bytes() == 0


def test_a_container_of_version_1_sets_the_limit(groups):
    root = groups("3:cpu,cpuacct:/x\n4:memory:/job\n1:name=systemd:/\n")
    group(root / "memory" / "job", limits.GROUP_FILES["memory"], 50 * MIB, 10 * MIB)
    assert available_bytes() == 40 * MIB
    (root / "memory" / "job" / "memory.stat").unlink()
    assert available_bytes() > 50 * MIB  # what cannot be read sets no limit


def test_no_groups_set_no_limit(groups):
    groups("0::/gone\n")
    assert available_bytes() > 50 * MIB


@pytest.mark.parametrize(("provider", "limit"), [("native", 700), ("native", 800), ("cpu", 300)])
def test_native_needs_room_for_its_compiler(monkeypatch, provider, limit):
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (limit * MIB, limit * MIB))
    if (provider, limit) == ("native", 700):
        with pytest.raises(ProviderError, match=r"needs 768 MiB .* limit is 700 MiB; raise it"):
            memory.check_address_space(provider)
    else:
        memory.check_address_space(provider)


def test_the_default_budget_is_said_to_who_asks(monkeypatch):
    monkeypatch.setattr("roicli.pipeline.run.default_budget", lambda: 900 * MIB)
    said = []
    features = normal_map((1, 2, 6, 6))
    rois = np.zeros((1, 5), np.float32)
    roicli.align(features, rois, spatial_scale=1.0, detail=said.append)
    assert said == ["max memory is 900 MiB, a quarter of the free"]
    said.clear()
    roicli.align(features, rois, spatial_scale=1.0, detail=said.append, max_memory="700M")
    assert said == []
