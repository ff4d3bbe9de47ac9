"""Files of torch.save: tensors by their ways, and nothing that runs."""

import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from roicli.core.exceptions import InputError, MissingPackageError
from roicli.storage.address import parse_address
from roicli.storage.open import open_array, read_contents
from roicli.storage.pattern import open_shelf

MAPS = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
ROIS = np.array([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]], np.float32)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def read(address, role):
    with_values = open_array(parse_address(address), role)
    return with_values.read_all()


def test_tensors_by_their_ways(torch, tmp_path):
    path = str(tmp_path / "x.pt")
    features = {"p3": torch.tensor(MAPS, requires_grad=True), "p4": torch.tensor(MAPS)}
    torch.save({"features": features, "boxes": [torch.tensor(ROIS)], "epoch": 3}, path)
    assert np.array_equal(read(f"{path}::features/p4", "features"), MAPS)
    assert np.array_equal(read(path, "rois"), ROIS)
    names = [one.address.partition("::")[2] for one in read_contents(parse_address(path)).datasets]
    assert names == ["features/p3", "features/p4", "boxes/0"]
    with pytest.raises(InputError, match="2 datasets fit"):
        read(path, "features")
    with pytest.raises(InputError, match="no tensor 'p3'; its tensors are: features/p3"):
        read(f"{path}::p3", "features")


def test_one_tensor_and_bfloat16(torch, tmp_path):
    path = str(tmp_path / "x.pth")
    torch.save(torch.tensor(MAPS).to(torch.bfloat16), path)
    assert np.array_equal(
        read(path, "features"), MAPS.astype(ml_dtypes.bfloat16).astype(np.float32)
    )


class Runs:
    """What a pickle would call."""

    def __reduce__(self):
        return (sys.exit, (7,))


def test_no_pickle_runs(torch, tmp_path):
    path = str(tmp_path / "x.pt")
    torch.save({"boxes": torch.tensor(ROIS), "more": Runs()}, path)
    with pytest.raises(InputError, match="cannot be read"):
        read(path, "rois")


def test_without_torch_it_is_one_line(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match="which is not installed") as caught:
        read(str(tmp_path / "x.pt"), "features")
    assert "safetensors" in caught.value.hint


def test_many_tensors_of_a_file_are_one_reading(torch, tmp_path, monkeypatch):
    path = str(tmp_path / "x.pt")
    torch.save({f"{number}": torch.tensor(MAPS[0] + number) for number in range(4)}, path)
    load, loads = torch.load, []
    monkeypatch.setattr(torch, "load", lambda *a, **b: loads.append(a) or load(*a, **b))
    shelf = open_shelf(parse_address(f"{path}::{{image}}"), "features")
    for number in (2, 0, 3):
        assert np.array_equal(shelf.open(str(number)).read_all(), MAPS[0] + np.float32(number))
    assert len(loads) == 1
    shelf.close()
