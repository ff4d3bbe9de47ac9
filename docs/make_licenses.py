"""docs/licenses.md: what an installation of roicli brings with it, and under which licences.

Reads the metadata of what is installed here, as ``make licenses`` does after installing the extras.
Licences are SPDX expressions (spdx.org/licenses). Older metadata has only free text, or a
classifier that covers several licences; these are told apart below.
"""

import sys
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licenses.md"
# `all` names other extras; NVIDIA's libraries are under NVIDIA's own licences.
NOT_LISTED = ("all", "cuda")
PLAIN = "plain install"

# The first line of a free-text licence, where it says which one it is.
TEXTS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License v2.0": "Apache-2.0",
    "BSD 3-Clause License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "PSFL": "PSF-2.0",
}
CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
}
# Read in the licence file that the package ships: its metadata says "BSD", or holds the whole text.
# Matplotlib's is the Python Software Foundation's, word for word with the names changed.
READ = {
    "cycler": "BSD-3-Clause",
    "hdf5plugin": "MIT",  # its own code; the filters in its wheel have licences of their own
    "jinja2": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "llvmlite": "BSD-2-Clause AND Apache-2.0 WITH LLVM-exception",
    "matplotlib": "PSF-2.0",
    "numba": "BSD-2-Clause",
    "partd": "BSD-3-Clause",
    "python-dateutil": "BSD-3-Clause",  # all of it; what is newer also under Apache-2.0
    "zict": "BSD-3-Clause",
    "numpy": "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
}
# What only older releases within the bounds bring, as `make test-lowest` installs them: the
# licence, the extra, and the package through which it comes.
OLDER = {
    "six": ("MIT", "figures", "python-dateutil"),
    "urllib3": ("MIT", "dask", "distributed"),
}


@dataclass
class Package:
    """One package: its bound where roicli names it, who needs it, and through what it comes."""

    name: str
    bound: str = ""
    needed_by: set[str] = field(default_factory=set)
    through: set[str] = field(default_factory=set)


def find_distribution(name: str) -> Distribution | None:
    """What is installed under a name, or None."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def find_license(found: Distribution) -> str:
    """The SPDX expression of an installed package. Raises ValueError where its metadata has none.

    Source of the fields: PEP 639; the core metadata specifications.
    """
    name, metadata = canonicalize_name(found.metadata["Name"]), found.metadata
    text = (metadata.get("License") or "").strip().partition("\n")[0]
    classifiers = metadata.get_all("Classifier") or []
    told = [CLASSIFIERS[line] for line in classifiers if line in CLASSIFIERS]
    for candidate in (metadata.get("License-Expression"), READ.get(name), TEXTS.get(text), text,
                      *told):  # fmt: skip
        try:
            if candidate:
                return canonicalize_license_expression(candidate)
        except InvalidLicenseExpression:
            continue
    raise ValueError(f"{name}: no licence among {text!r} and {classifiers}; read its licence file")


def declared() -> dict[str, list[Requirement]]:
    """What pyproject.toml requires, by the extra that requires it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {PLAIN: project["dependencies"], **project["optional-dependencies"]}
    return {
        group: [Requirement(line) for line in lines]
        for group, lines in groups.items()
        if group not in NOT_LISTED
    }


def collect() -> dict[str, Package]:
    """Every package that an installation has, direct or not, by name."""
    packages: dict[str, Package] = {}
    for group, requirements in declared().items():
        for requirement in requirements:
            package = _visit(packages, requirement, group, "")
            package.bound = str(requirement.specifier)
    return packages


def _visit(
    packages: dict[str, Package], requirement: Requirement, group: str, parent: str
) -> Package:
    name = canonicalize_name(requirement.name)
    package = packages.setdefault(name, Package(name))
    package.through |= {parent} - {""}
    if group in package.needed_by:
        return package
    package.needed_by.add(group)
    found = find_distribution(name)
    for line in (found.requires or []) if found else []:
        child = Requirement(line)
        extras = requirement.extras or {""}
        if child.marker is None or any(child.marker.evaluate({"extra": one}) for one in extras):
            _visit(packages, child, group, name)
    return package


def render(packages: dict[str, Package]) -> str:
    """The page. Raises ValueError where a package is not installed or its licence is not known."""
    lines = [
        "# Licences of what roicli installs",
        "",
        "roicli itself is Apache-2.0 and contains no code of others. This is what `pip install`",
        "brings with it, as SPDX expressions, made by `make licenses` from the packages' metadata.",
        "A wheel may bundle libraries of others (hdf5plugin's filters, HDF5 in h5py), which its",
        "files or pages name. Tools that develop, test, fuzz and measure roicli are not listed.",
        "Made on Python 3.11; on later ones newer releases may bring more (zarr: msgspec).",
        "",
        "| package | bound | licence | needed by | how |",
        "|---|---|---|---|---|",
    ]
    rows = {name: _render_row(package) for name, package in packages.items() if name not in OLDER}
    for name, (expression, extra, parent) in OLDER.items():
        rows[name] = f"| {name} | any | {expression} | {extra} | through older {parent} |"
    return "\n".join([*lines, *(rows[name] for name in sorted(rows))]) + "\n"


def _render_row(package: Package) -> str:
    found = find_distribution(package.name)
    if found is None:
        raise ValueError(f"{package.name} is not installed, so its licence is not known here")
    groups = [PLAIN] if PLAIN in package.needed_by else sorted(package.needed_by)
    how = "direct" if package.bound else "through " + ", ".join(sorted(package.through))
    cells = (package.name, package.bound or "any", find_license(found), ", ".join(groups), how)
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Write the page."""
    try:
        PAGE.write_text(render(collect()), encoding="utf-8")
    except ValueError as error:
        sys.exit(f"make_licenses: {error}")


if __name__ == "__main__":
    main()
