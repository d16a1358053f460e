"""The code blocks of the documentation, and how each runs.

A comment above a block holds a mapping in YAML that says what its reader has:

- ``first``: Python that runs before, mostly to write the files that the text takes for granted;
- ``with``: options that complete the few in a YAML block;
- ``driver``: that of a YAML block which is a part of an entry, if it is not ``tiffstack``;
- ``file``: the name of the catalog that a YAML block is written to, or of the table that a text is;
- ``needs``: modules without which the block is only checked;
- ``skip``: why it cannot run here, so that it is only checked;
- ``by``: the test that runs it.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import sys
import textwrap
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from doctest import DocTestParser, DocTestRunner
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import dask
import fsspec
import intake
import pytest
import tifffile
import yaml

from intake_tiffstack import open_stack, samples, settings
from intake_tiffstack.cli.app import main
from tiff_files import kind, pixels

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
KEYS = {"first", "with", "driver", "file", "needs", "skip", "by"}
#: Blocks of these languages are looked at, and nothing more.
SHOWN = {"text", "{toctree}"}
BLOCK = re.compile(
    r"(?:^ *<!-- test\s(?P<test>.*?)-->\n)?"
    r"^(?P<indent> *)```(?P<language>\S*)\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    page: Path
    line: int
    """How many lines are above its text."""
    language: str
    text: str
    test: dict[str, Any]
    """What the comment above it says."""


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")),
            found["language"],
            textwrap.dedent(found["text"]),
            yaml.safe_load(found["test"] or "{}"),
        )
        for found in BLOCK.finditer(text)
    ]


def write(
    name: str, /, *, shape: tuple[int, ...] = (16, 24), imagej: Any = None, **fields: Any
) -> None:
    """Write a file for each combination of *fields*, by a name like ``raw/c{c}_t{t}.tif``."""
    options = {} if imagej is None else kind("imagej") | imagej
    for number, values in enumerate(product(*fields.values())):
        path = Path(name.format(**dict(zip(fields, values, strict=True))))
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, pixels(*shape, seed=number), photometric="minisblack", **options)


def write_pyramid(path: str) -> None:
    """Write an OME-TIFF of three levels."""
    levels = [pixels(size, size) for size in (64, 32, 16)]
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(levels[0], subifds=2, tile=(16, 16))
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, tile=(16, 16))


def upload(folder: str, url: str) -> None:
    """Put the files of a folder into a bucket, made if need be, where all may read them."""
    store, path = fsspec.url_to_fs(url)
    bucket = path.partition("/")[0]
    store.mkdirs(bucket, exist_ok=True)
    store.chmod(bucket, "public-read")
    for file in Path(folder).iterdir():
        store.pipe_file(f"{path}/{file.name}", file.read_bytes(), ACL="public-read")


#: What the Python of ``first`` finds.
HELPERS = {
    "Path": Path,
    "samples": samples,
    "upload": upload,
    "write": write,
    "write_pyramid": write_pyramid,
}


class Reader:
    """Who does what a page says, from top to bottom."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def follow(self, block: Block) -> None:
        """Run one block, or check what cannot run here."""
        assert block.test.keys() <= KEYS, f"{block.page}:{block.line}"
        lacks = [name for name in block.test.get("needs", []) if not is_installed(name)]
        if "first" in block.test and not lacks:
            scope = HELPERS | self.names
            exec(block.test["first"], scope)
            self.names.update({name: scope[name] for name in scope.keys() - HELPERS.keys()})
        if "by" in block.test:
            path, name = block.test["by"].split("::")
            assert f"def {name}(" in (ROOT / path).read_text("utf-8")
            return
        runs = not lacks and "skip" not in block.test
        how = {"python": (run_python, check_python), "sh": (run_shell, check_shell)}
        if block.language in how:
            run, check = how[block.language]
            (run if runs else check)(block, self.names)
        elif block.language == "yaml":
            open_yaml(block) if runs else yaml.safe_load(block.text)
        elif block.language == "text" and "file" in block.test:
            Path(block.test["file"]).write_text(block.text, "utf-8")
            assert open_stack(block.test["file"]).to_dask().size
        elif block.language == "json":
            json.loads(f"{{{block.text}}}")  # without the outer braces
        else:
            assert block.language in SHOWN, f"{block.page}:{block.line}: a block of no language"


def is_installed(name: str) -> bool:
    return name in sys.modules or find_spec(name) is not None


def run_python(block: Block, names: dict[str, Any]) -> None:
    """Run Python; what stands alone and is lazy is computed, what follows ``>>>`` compared."""
    if block.text.startswith(">>>"):
        test = DocTestParser().get_doctest(block.text, names, str(block.page), None, block.line)
        assert not DocTestRunner().run(test, clear_globs=False).failed
        return
    for statement in ast.increment_lineno(ast.parse(block.text), block.line).body:
        if isinstance(statement, ast.Expr):
            code = compile(ast.Expression(statement.value), block.page, "eval")
            dask.compute(eval(code, names))
        else:
            exec(compile(ast.Module([statement], []), block.page, "exec"), names)


def check_python(block: Block, names: dict[str, Any]) -> None:
    """Import what is installed of what the block imports; compare its calls with signatures."""
    names = dict(names)
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
            if all(module and is_installed(module.partition(".")[0]) for module in modules):
                exec(compile(ast.Module([node], []), block.page, "exec"), names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.pop(node.id, None)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = resolve(node.func, names)
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            if callable(function) and keywords:
                inspect.signature(function).bind_partial(**keywords)


def resolve(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return what an expression of names and attributes means, without running anything."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(resolve(node.value, names), node.attr, None)
    return None


def run_shell(block: Block, names: dict[str, Any]) -> None:
    """Run the lines that are ``tiffstack`` and those that set a variable; check the others."""
    for words in lines_of(block):
        if words[0] == "tiffstack":
            kept, sys.argv = sys.argv, words
            try:
                with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
                    main()
            finally:
                sys.argv = kept
            assert ended.value.code == 0, words
        elif words[0] == "export":
            os.environ.update([words[1].split("=", 1)])
        else:
            check_line(words)


def check_shell(block: Block, names: dict[str, Any]) -> None:
    for words in lines_of(block):
        check_line(words)


def lines_of(block: Block) -> Iterator[list[str]]:
    for text in block.text.splitlines():
        if words := shlex.split(text, comments=True):
            yield words


def check_line(words: list[str]) -> None:
    """Check a line that the tests do not run: targets, extras and modules that it names exist."""
    program, *arguments = words
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.M))
        assert {word for word in arguments if "=" not in word} <= targets, words
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        asked = re.findall(r"intake-tiffstack\[(.*?)\]", " ".join(arguments))
        assert set(asked) <= project["optional-dependencies"].keys(), words
    else:
        assert program == "python", words
        assert arguments[0] == "-m", words
        assert find_spec(arguments[1]), words


def open_yaml(block: Block) -> None:
    """Open what a block describes: a catalog, an entry, some options, or settings."""
    told = yaml.safe_load(block.text)
    if "tiffstack" in told:
        assert told["tiffstack"].keys() <= settings.DEFAULTS.keys()
        return
    text = block.text
    if "sources" not in told:
        driver = block.test.get("driver", "tiffstack")
        args = block.test.get("with", {}) | told.get("args", told)
        text = yaml.safe_dump({"sources": {"entry": {"driver": driver, "args": args}}})
    path = Path(block.test.get("file", "block.yml"))
    path.write_text(text, "utf-8")
    catalog = intake.open_catalog(str(path))
    for name in catalog:
        entry = catalog[name]
        assert list(entry) if hasattr(entry, "walk") else entry.to_dask().size


@contextmanager
def same_machine() -> Iterator[None]:
    """Take back what a page sets in the environment and in our settings."""
    environment = dict(os.environ)
    try:
        with dask.config.set(tiffstack=deepcopy(dask.config.get("tiffstack", {}))):
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
