"""The files around the package agree with ``pyproject.toml`` and the Makefile."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
#: What conda-forge calls a package otherwise.
CONDA_NAMES = {"dask": "dask-core"}


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def steps_of(workflow: dict[str, Any]) -> list[str]:
    """Return the commands of a workflow, with the values of its matrix put in."""
    commands = []
    for job in workflow["jobs"].values():
        rows = job.get("strategy", {}).get("matrix", {}).get("include", [{}])
        for step in job["steps"]:
            for row in rows:
                text = step.get("run", "")
                for key, value in row.items():
                    text = text.replace(f"${{{{ matrix.{key} }}}}", str(value))
                commands += [text] * (text not in commands)
    return commands


def made(text: str) -> set[str]:
    """Return the targets that the ``make`` lines of a text name."""
    lines = re.findall(r"^\s*make ((?:[a-z-]+ ?)+)", text, re.MULTILINE)
    return {target for line in lines for target in line.split()}


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=str)
def test_a_workflow_calls_targets_of_the_makefile(path: Path) -> None:
    called = made("\n".join(steps_of(yaml.safe_load(path.read_text("utf-8")))))
    assert called
    assert called <= TARGETS


def test_workflows_run_what_every_change_must_pass() -> None:
    local = made((ROOT / ".ci" / "run").read_text("utf-8"))
    public = made("\n".join(steps_of(load(".github/workflows/tests.yml"))))
    assert local
    assert local <= public
    assert {"test-lowest", "test-readers", "docs"} <= public


def test_three_systems_and_all_pythons_are_tested() -> None:
    matrix = load(".github/workflows/tests.yml")["jobs"]["test"]["strategy"]["matrix"]
    rows = list(matrix["include"])
    rows += [
        {"os": system, "python": python} for system in matrix["os"] for python in matrix["python"]
    ]
    assert {row["os"].partition("-")[0] for row in rows} == {"ubuntu", "macos", "windows"}
    tested = {row["python"] for row in rows}
    assert tested == {"3.11", "3.12", "3.13", "3.14"}
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert declared
    assert set(declared) <= tested
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_page_of_contributors_names_targets_and_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert made(text) | set(re.findall(r"`make ([a-z-]+)", text)) <= TARGETS
    for link in re.findall(r"\]\(([^)#:]+)[)#]", text):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"`(test_[a-z_*]+\.py)`", text):
        assert list((ROOT / "tests").glob(name)), name
    for room in re.findall(r"`([a-z_]+)/`", text):
        assert (ROOT / "intake_tiffstack" / room).is_dir(), room


def test_the_conda_recipe_requires_what_the_package_requires() -> None:
    recipe = load("conda/recipe.yaml")
    python, *others = recipe["requirements"]["run"]
    assert python == "python >=${{ python_min }}"
    assert PROJECT["requires-python"] == f">={recipe['context']['python_min']}"
    expected = set()
    for text in PROJECT["dependencies"]:
        name, bounds = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(.*)", text).groups()  # type: ignore[union-attr]
        expected.add(f"{CONDA_NAMES.get(name, name)} {bounds}")
    assert set(others) == expected
    scripts = {f"{name} = {place}" for name, place in PROJECT["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) == scripts


def test_the_conda_recipe_renders() -> None:
    reason = "py-rattler-build is in the extra dev alone"
    rattler_build = pytest.importorskip("rattler_build", reason=reason)
    [variant] = rattler_build.Stage0Recipe.from_file(ROOT / "conda" / "recipe.yaml").render()
    package = variant.recipe.package
    assert (package.name, package.version) == (PROJECT["name"], PROJECT["version"])


def test_versions_and_licences_agree() -> None:
    recipe, citation = load("conda/recipe.yaml"), load("CITATION.cff")
    assert recipe["context"]["version"] == citation["version"] == PROJECT["version"]
    assert recipe["about"]["license"] == citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Homepage"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=str)
def test_issue_templates_have_what_github_requires(path: Path) -> None:
    template = yaml.safe_load(path.read_text("utf-8"))
    if path.name == "config.yml":
        return
    assert {"name", "description", "body"} <= set(template)
    ids = [field["id"] for field in template["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in template["body"])


def test_make_finds_the_python_of_an_environment_on_windows_too() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make")
    for system, folder in (("Windows_NT", "Scripts"), ("", "bin")):
        command = [make, "-n", "lint", f"OS={system}", "PYTHON=python", "VENV=.venv"]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert f".venv/{folder}/python -m ruff check ." in shown
