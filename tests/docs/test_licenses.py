"""docs/licenses.md lists what is installed, each with a licence that SPDX knows."""

import importlib.util
import sys
from pathlib import Path

import pytest
from packaging.licenses import canonicalize_license_expression
from packaging.requirements import Requirement

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_licenses.py"
_spec = importlib.util.spec_from_file_location("make_licenses", SCRIPT)
licenses = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = licenses
_spec.loader.exec_module(licenses)

ROWS = {
    cells[0]: cells[1:]
    for cells in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in licenses.PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| package")
    )
}
INSTALLED = [
    name for name in sorted(licenses.collect()) if licenses.find_distribution(name) is not None
]


def test_the_walk_finds_direct_and_other_packages():
    packages = licenses.collect()
    assert packages["numpy"].bound.startswith(">=")
    assert licenses.PLAIN in packages["numpy"].needed_by
    assert packages["llvmlite"].needed_by == {"native"}
    assert "numba" in packages["llvmlite"].through
    assert not packages["llvmlite"].bound
    assert "pytest" not in packages


def test_what_is_installed_is_listed_with_its_licence():
    for name in INSTALLED:
        if name not in ROWS and sys.version_info >= (3, 12):
            continue  # the page is that of the oldest Python: newer releases bring others
        _, expression, needed_by, how = ROWS[name]
        assert canonicalize_license_expression(expression) == expression, name
        # The installed version may declare the same licence with more or fewer bundled ones.
        found = licenses.find_license(licenses.find_distribution(name))
        assert set(found.split()) & set(expression.split()) - {"AND", "OR", "WITH"}, name
        assert needed_by, name
        assert how.startswith(("direct", "through ")), name


def test_bounds_are_those_of_pyproject():
    for requirements in licenses.declared().values():
        for requirement in requirements:
            bound, _, _, how = ROWS[licenses.canonicalize_name(requirement.name)]
            assert (bound, how) == (str(requirement.specifier), "direct")
            assert ">=" in bound


class Metadata(dict):
    def get_all(self, name):
        return self.get(name)


class Fake:
    def __init__(self, **fields):
        names = {key.replace("_", "-"): value for key, value in fields.items()}
        self.metadata = Metadata({"Name": "fake", **names})


@pytest.mark.parametrize(
    ("fields", "expression"),
    [
        ({"License_Expression": "MIT or apache-2.0"}, "MIT OR Apache-2.0"),
        ({"License": "MIT"}, "MIT"),
        ({"License": "Apache License v2.0\nand more"}, "Apache-2.0"),
        ({"Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"Name": "Numba", "License": "BSD"}, "BSD-2-Clause"),
    ],
)
def test_a_licence_is_read_wherever_it_stands(fields, expression):
    assert licenses.find_license(Fake(**fields)) == expression


@pytest.mark.parametrize(
    "fields", [{}, {"License": "BSD"}, {"Classifier": ["License :: OSI Approved :: BSD License"]}]
)
def test_a_licence_that_is_not_told_apart_is_refused(fields):
    with pytest.raises(ValueError, match="fake: no licence"):
        licenses.find_license(Fake(**fields))


def test_a_package_that_is_not_installed_is_named():
    packages = {"no-such-package": licenses.Package("no-such-package", ">=1", {"native"})}
    with pytest.raises(ValueError, match="no-such-package is not installed"):
        licenses.render(packages)


def test_extras_of_requirements_are_followed():
    packages = {}
    licenses._visit(packages, Requirement("numba>=0.62"), "native", "")
    assert {"numba", "llvmlite", "numpy"} <= set(packages)
