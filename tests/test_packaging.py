"""What the wheel declares is what the package imports: a bare install opens a catalog."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Imported where they are used alone, each behind an extra or a message that names what to install.
OPTIONAL = {
    "aiohttp",  # fsspec's HTTP has imported it by then
    "aiobotocore",  # s3fs has
    "botocore",
    "cupy",
    "cupyx",
    "pyproj",
    "distributed",
    "fastparquet",
    "icechunk",
    "virtualizarr",
    "obstore",
    "ome_types",
    "pyarrow",
}


def imported_modules() -> set[str]:
    """Return the top-level modules that the package imports, anywhere."""
    found: set[str] = set()
    for path in (ROOT / "intake_tiffstack").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"intake_tiffstack"}


def declared_distributions() -> set[str]:
    """Return the names of the base dependencies in ``pyproject.toml``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        re.split(r"[\[<>=!~ ]", text, maxsplit=1)[0].lower() for text in project["dependencies"]
    }


def test_every_import_is_declared() -> None:
    distributions = packages_distributions()
    declared = declared_distributions()
    undeclared = {
        module
        for module in imported_modules() - OPTIONAL
        if declared.isdisjoint(map(str.lower, distributions.get(module, [module])))
    }
    assert not undeclared


# -- the page of a package index -------------------------------------------------------------------

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def project() -> dict[str, Any]:
    """Return the table ``[project]`` of ``pyproject.toml``."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def test_links_and_pictures_of_the_readme_work_on_another_page() -> None:
    home = project()["urls"]["Homepage"]
    raw = home.replace("//github.com", "//raw.githubusercontent.com") + "/main/"
    links = LINK.findall((ROOT / "README.md").read_text("utf-8"))
    assert len(links) > 10
    for link in links:
        assert link.startswith(("https://", "#")), f"{link} is relative"
        for start in (f"{home}/blob/main/", raw):
            if link.startswith(start):
                path = link.removeprefix(start).partition("#")[0]
                assert (ROOT / path).exists(), f"{link} leads to no file"


def test_the_project_says_who_made_it_and_where_it_is() -> None:
    described = project()
    assert described["authors"]
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= described["urls"].keys()
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in described["classifiers"]
