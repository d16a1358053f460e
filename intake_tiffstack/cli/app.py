"""The commands of ``tiffstack``, their exit codes and their errors."""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import suppress
from enum import StrEnum
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from intake_tiffstack.cli.source import (
    NONE_PICKED,
    STORAGE_ENVIRONMENT,
    NonePicked,
    open_source,
    takes_source,
)
from intake_tiffstack.errors import OptionError, TiffStackError, TiffStackWarning

__all__ = ["app", "main"]

USAGE = 2
"""Exit code of wrong usage, the same as Click's."""
FAILED = 1
"""Exit code where something is wrong: a file, an option, a copy."""

_ERRORS = Console(stderr=True, soft_wrap=True)
_SHOWN: set[str] = set()
"""Warnings that this call printed: each is printed once."""

app = typer.Typer(
    name="tiffstack",
    help="TIFF collections, local or in the cloud, as one array: look, describe, draw, copy.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
persist_app = typer.Typer(help="The copies in the store of persist().", no_args_is_help=True)
app.add_typer(persist_app, name="persist")

Url = Annotated[
    str, typer.Argument(help="A folder, file, glob or list of URLs; local or any fsspec URL.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")
]
StorageOptions = Annotated[
    str | None,
    typer.Option(
        "--storage-options",
        help="For fsspec, as JSON or YAML: {profile: lab, endpoint_url: http://...}.",
        envvar=STORAGE_ENVIRONMENT,
        show_envvar=True,
    ),
]


class Format(StrEnum):
    """Formats of copies."""

    ZARR = "zarr"
    OME_ZARR = "ome-zarr"
    OME_TIFF = "ome-tiff"
    REFERENCES = "references"


def main() -> None:
    """Run the command line; errors of the package take a few lines, ``--debug`` shows all."""
    is_debug = "--debug" in sys.argv
    arguments = [text for text in sys.argv[1:] if text != "--debug"]
    warnings.simplefilter("always", TiffStackWarning)
    _SHOWN.clear()
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        app(arguments, prog_name="tiffstack")
    except SystemExit as ended:
        if ended.code == USAGE and sum(map(os.path.isfile, arguments)) > 1:
            _ERRORS.print(
                "Did the shell replace a glob by names? Then quote it, as in 'raw/*.tif'.",
                highlight=False,
            )
        raise
    except NonePicked as exc:
        _ERRORS.print(str(exc), markup=False, highlight=False)
        code = NONE_PICKED
    except (TiffStackError, ImportError, OSError) as exc:
        if is_debug:
            raise
        _ERRORS.print("[bold red]error:[/] ", end="")
        _ERRORS.print(str(exc) or type(exc).__name__, markup=False, highlight=False)
        code = FAILED
    sys.exit(code)


def _show_warning(message: Warning | str, *_: Any) -> None:
    if str(message) in _SHOWN:  # several proposals were tried on the same files
        return
    _SHOWN.add(str(message))
    _ERRORS.print("[yellow]warning:[/] ", end="")
    _ERRORS.print(str(message), markup=False, highlight=False)


def _version(is_asked: bool) -> None:
    if is_asked:
        print(f"tiffstack {package_version('intake-tiffstack')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Look at TIFF collections, write catalogs, pictures and copies.

    Exit codes: 0 done; 1 an error or a copy that is not right; 2 wrong usage; 3 no pattern can be
    picked from the names.
    """


def _inspect(url: Url, as_json: AsJson = False, **options: Any) -> None:
    """Show what is there: proposals, dims, calibration, holes, strays, what a task reads."""
    from intake_tiffstack.cli.inspection import describe, print_description

    description = describe(url, options)
    if as_json:
        print(json.dumps(description.to_dict(), indent=1))
    else:
        print_description(description, Console())
    if description.is_undecided:
        raise typer.Exit(NONE_PICKED)
    if description.problems:
        raise typer.Exit(FAILED)


def _catalog(
    url: Url,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The catalog; created if missing.")
    ] = "catalog.yml",
    name: Annotated[str, typer.Option("--name", "-n", help="Name of the entry.")] = "images",
    dry_run: DryRun = False,
    **options: Any,
) -> None:
    """Write or replace one entry of a catalog, and open it again as proof; comments are kept."""
    from intake_tiffstack.cli.catalog import write_entry

    write_entry(url, options, output, name, Console(), dry_run=dry_run)


def _preview(
    url: Url,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG.")] = Path("preview.png"),
    percentiles: Annotated[
        tuple[float, float], typer.Option(help="Darkest and brightest, in percent of the pixels.")
    ] = (0.5, 99.8),
    width: Annotated[int, typer.Option(help="Greatest width of a picture, in pixels.")] = 384,
    **options: Any,
) -> None:
    """Draw the middle planes and maximum projections, channels in colour, with a scale bar."""
    stack, _ = open_source(url, options)
    picture = stack.preview(percentiles=percentiles, width=width)
    picture.save(output, format="PNG")
    Console().print(f"{output}: {picture.width} x {picture.height} pixels", highlight=False)


def _index(
    url: Url,
    output: Annotated[
        str, typer.Option("--output", "-o", help="The index, a Parquet file; local or a URL.")
    ] = "headers.parquet",
    **options: Any,
) -> None:
    """Keep the headers of remote files in an index, which header_index reads."""
    from intake_tiffstack.cli.headers import write_headers

    write_headers(url, {**options, "header_index": output}, Console())


def _export(
    url: Url,
    destination: Annotated[str, typer.Argument(help="Where to write the copy.")],
    format: Annotated[Format, typer.Option(help="Format of the copy.")] = Format.ZARR,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of export(), NAME=VALUE: chunks=[1,64,64]."),
    ] = None,
    destination_options: Annotated[
        str | None, typer.Option(help="storage_options of the destination; else --storage-options.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing copy.")] = False,
    dry_run: DryRun = False,
    **options: Any,
) -> None:
    """Write a Zarr, an OME-Zarr, an OME-TIFF, or references to the files."""
    from intake_tiffstack.cli.copies import export

    given = {key: _value(text) for key, text in map(_pair, option or [])}
    storage = _mapping(destination_options or options.get("storage_options"))
    given |= {"storage_options": storage} if storage else {}
    given |= {"overwrite": True} if overwrite else {}
    export(url, options, destination, format.value, given, Console(), dry_run=dry_run)


@app.command()
def verify(
    copy: Annotated[str, typer.Argument(help="A Zarr, OME-Zarr or references.")],
    against: Annotated[
        str | None,
        typer.Option(
            help="The files it was made from, FILE.yml:ENTRY; by default those in its audit record."
        ),
    ] = None,
    is_alone: Annotated[
        bool, typer.Option("--alone", help="Do not compare it with the files it was made from.")
    ] = False,
    all_chunks: Annotated[
        bool, typer.Option("--all", help="Read every chunk, not a few of each array.")
    ] = False,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Hash the files and compare them with the record.")
    ] = False,
    as_json: AsJson = False,
    storage_options: StorageOptions = None,
) -> None:
    """Check a copy: it opens, all chunks are there and decode, and files and pixels are equal."""
    from intake_tiffstack.cli.copies import check_copy, print_check

    check = check_copy(
        copy,
        _mapping(storage_options),
        against=against,
        is_alone=is_alone,
        all_chunks=all_chunks,
        sha256=sha256,
    )
    if as_json:
        print(json.dumps(check.to_dict(), indent=1))
    else:
        print_check(check, Console())
    if check.problems:
        raise typer.Exit(FAILED)


@persist_app.command("list")
def persist_list(as_json: AsJson = False) -> None:
    """List the copies in the store."""
    from intake_tiffstack.cli.persisted import list_copies

    list_copies(Console(), as_json=as_json)


@persist_app.command("show")
def persist_show(key: Annotated[str, typer.Argument(help="Key, or how it begins.")]) -> None:
    """Show all that is known of one copy."""
    from intake_tiffstack.cli.persisted import show_copy

    show_copy(key, Console())


@persist_app.command("remove")
def persist_remove(
    key: Annotated[str, typer.Argument(help="Key, or how it begins.")],
    dry_run: DryRun = False,
) -> None:
    """Remove one copy; the files stay."""
    from intake_tiffstack.cli.persisted import remove_copy

    remove_copy(key, Console(), dry_run=dry_run)


@persist_app.command("prune")
def persist_prune(
    grace: Annotated[
        str | None,
        typer.Option(help="Such as '2 h' or 0; by default the setting persist_grace."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Remove superseded copies that no reader needs any more."""
    from intake_tiffstack.cli.persisted import prune_copies

    prune_copies(grace, Console(), dry_run=dry_run)


for _name, _command in (
    ("inspect", _inspect),
    ("catalog", _catalog),
    ("preview", _preview),
    ("index", _index),
    ("export", _export),
):
    app.command(_name)(takes_source(_command))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise OptionError(f"--set takes NAME=VALUE, but got {text!r}")
    return name.strip().replace("-", "_"), value


def _value(text: str) -> Any:
    with suppress(yaml.YAMLError):
        return yaml.safe_load(text)
    return text


def _mapping(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    value = _value(text)
    if not isinstance(value, dict):
        raise OptionError(f"--storage-options takes a mapping, {{name: value}}, but got {text!r}")
    return value
