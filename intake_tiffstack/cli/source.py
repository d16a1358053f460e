"""The options of a collection on the command line: those of the driver, each as text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any

import typer

from intake_tiffstack.collection.suggest import INFER, suggest
from intake_tiffstack.collection.suggestion import Suggestions
from intake_tiffstack.errors import OptionError, PatternError
from intake_tiffstack.options import Options
from intake_tiffstack.stack import TiffStack

__all__ = ["HOW_TO_TAKE", "NONE_PICKED", "NonePicked", "open_source", "takes_source"]

NONE_PICKED = 3
"""Exit code where names give no pattern, or several that are equally good."""

HOW_TO_TAKE = "--pattern 1 takes the first"

STORAGE_ENVIRONMENT = "TIFFSTACK_STORAGE_OPTIONS"

_PANEL = "Options of the collection"
_ENVIRONMENT = {"storage_options": STORAGE_ENVIRONMENT}


class NonePicked(PatternError):
    """No pattern was given, and none can be picked from the names."""


def takes_source(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose ``**options`` are all options of the driver, as text.

    The text of a number, list or dict is read as in the templates of a catalog.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    parameters = [*own, *map(_as_option, fields(Options)[1:])]

    def call(**given: Any) -> None:
        command(**{name: value for name, value in given.items() if value is not None})

    call.__name__ = command.__name__
    call.__doc__ = command.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _as_option(spec: Any) -> inspect.Parameter:
    meaning = spec.metadata["doc"].replace("`", "")
    default = "" if spec.default in (MISSING, None) else f" [default: {spec.default}]"
    if spec.name == "pattern":
        meaning, default = (
            meaning.replace("None:", "none:"),
            "; the number of a proposal takes it [default: infer]",
        )
    shown = typer.Option(
        f"--{spec.name.replace('_', '-')}",
        help=f"{meaning}{default}",
        metavar="TEXT",
        envvar=_ENVIRONMENT.get(spec.name),
        show_default=False,
        rich_help_panel=_PANEL,
    )
    return inspect.Parameter(
        spec.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, shown],
    )


def open_source(url: str, options: Mapping[str, Any]) -> tuple[TiffStack, Suggestions | None]:
    """Return the collection that a command names, and the suggestions if a pattern was inferred.

    Without a pattern the best suggestion is taken; for files whose names number nothing, the order
    of their names. ``--pattern none`` asks for that order, ``--pattern 2`` for the second
    suggestion, which is then the only one returned.

    Raises
    ------
    NonePicked
        If there are several suggestions and none is better.
    OptionError
        If no suggestion has the number that is asked for.
    """
    given = dict(options)
    asked = given.pop("pattern", INFER)
    parsed = Options.parse({"urlpath": url, **given})
    if asked.lower() == "none" or "{" in url:
        return TiffStack(parsed), None
    if asked != INFER and not asked.isdecimal():
        return TiffStack(Options.parse({"urlpath": url, **given, "pattern": asked})), None
    found = suggest(url, storage_options=parsed.storage_options, exclude=parsed.exclude)
    if asked.isdecimal():
        found = _take(found, int(asked))
    if found.best is None and found:
        raise NonePicked(f"{found}\n{HOW_TO_TAKE}")
    taken = {} if found.best is None else dict(found.best.options)
    return TiffStack(Options.parse({"urlpath": url, **taken, **given})), found


def _take(found: Suggestions, number: int) -> Suggestions:
    if not 1 <= number <= len(found):
        raise OptionError(
            f"--pattern {number} asks for a proposal by its number, but there are {len(found)}; "
            "tiffstack inspect shows them"
        )
    return Suggestions([found[number - 1]])
