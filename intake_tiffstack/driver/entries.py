"""Checks and text of catalog entries."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Self

from intake_tiffstack.errors import EntryError, OptionError, warn
from intake_tiffstack.options import urls_of_text
from intake_tiffstack.redact import OF_STORES, escape_template, mask_secrets
from intake_tiffstack.storage.urls import absolute_url, first_relative, is_local

__all__ = [
    "absolute_urlpath",
    "check_entry",
    "collapse_after",
    "default_options",
    "describe_parameters",
    "option_overrides",
    "parameter_names",
    "render_overrides",
    "rendered_names",
    "spell_arguments",
    "spell_entry",
    "warn_of_relative",
    "yaml_fault",
]

_ALWAYS_KNOWN = frozenset({"CATALOG_DIR", "env", "shell", "client_env", "client_shell"})
_CATALOG_DIR = re.compile(r"\{\{\s*CATALOG_DIR\s*\}\}")
_BRACED = re.compile(r"\A\{\{ (env\(\w+\)) \}\}\Z")
_VALUES = frozenset({"default", "allowed", "min", "max"})
"""Keys of a parameter that hold values."""
_ENV_DEFAULT = re.compile(r"\s*env\(\s*([^\s,)]+)\s*\)")


def check_entry(entry: Any, overrides: Mapping[str, Any]) -> None:
    """Raise if a template uses an unknown name, or an environment variable that is not set.

    Intake renders both to nothing.

    Parameters
    ----------
    entry : intake.catalog.local.LocalCatalogEntry
        The catalog entry of a source.
    overrides : mapping
        Options and values of templates given in Python.

    Raises
    ------
    EntryError
        If either is found; the message names the entry and what to write.
    """
    arguments = {k: v for k, v in entry._open_args.items() if k not in overrides}
    parameters = parameter_names(entry)
    known = _ALWAYS_KNOWN | parameters | set(entry._open_args) | set(overrides)
    for name in sorted(set(_template_names(arguments)) - known):
        in_small = {one.lower(): one for one in known}
        near = get_close_matches(name.lower(), in_small, n=1)
        names = ", ".join(map(repr, sorted(parameters)))
        other = f"write one of its parameters: {names}" if names else "add a parameter of that name"
        hint = f"did you mean {in_small[near[0]]!r}?" if near else other
        if name in _template_names(arguments.get("pattern")):
            hint += f"; a field of a pattern has one brace: {{{name}}}"
        raise EntryError(
            f"entry {entry.name!r} uses the template name {name!r}, which is not a parameter "
            f"and would render to nothing; give its value, as in {entry.name}({name}=...), or "
            f"{hint}",
            entry=entry.name,
        )
    if not entry.getenv:
        return
    unset = [*_unset_variables(arguments, {**parameter_values(entry), **overrides})]
    for parameter in entry._user_parameters or []:
        asked = _ENV_DEFAULT.match(str(parameter._default))
        if asked and parameter.name not in overrides and asked[1] not in os.environ:
            unset.append(asked[1])
    for variable in unset:
        raise EntryError(
            f"entry {entry.name!r} takes a value from the environment variable {variable!r}, which "
            f"is not set: set it, or add a default to the entry: {{{{ env('{variable}', "
            "'/data') }}",
            entry=entry.name,
        )


def yaml_fault(exc: Exception) -> str:
    """Return what is wrong with a YAML text and where, without the text: it may hold secrets.

    >>> import yaml
    >>> try:
    ...     yaml.safe_load("a: {secret: *word1}")
    ... except yaml.YAMLError as exc:
    ...     yaml_fault(exc)
    "found undefined alias '...' in line 1, column 13"
    """
    mark = getattr(exc, "problem_mark", None)
    text = getattr(exc, "problem", None) or str(exc)
    where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
    return re.sub(r"'[^']{2,}'", "'...'", " ".join(text.split())) + where


class _Unset(str):
    """An environment variable that is not set: false in a template, noted if it is written out."""

    def __new__(cls, name: str, written: list[str]) -> Self:
        made = super().__new__(cls, "")
        made.name, made.written = name, written
        return made

    name: str
    written: list[str]

    def __str__(self) -> str:
        self.written.append(self.name)
        return ""

    def __add__(self, other: str) -> str:
        return str(self) + other

    def __radd__(self, other: str) -> str:
        return other + str(self)

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; what a method such as ``strip`` leaves empty is still not set."""
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found
        return lambda *args, **options: found(*args, **options) or self


def _unset_variables(value: Any, context: Mapping[str, Any]) -> Iterator[str]:
    """Yield the environment variables that templates write out and that are not set."""
    from jinja2 import Environment, Undefined

    written: list[str] = []

    def env(name: Any, default: Any = None) -> Any:
        name = name._undefined_name if isinstance(name, Undefined) else name
        found = os.environ.get(name, default)
        return _Unset(name, written) if found is None else found

    environment = Environment()
    environment.globals["env"] = env
    for text in _templates(value):
        environment.from_string(text).render(context)
        yield from written
        written.clear()


def warn_of_relative(entry: Any, urlpath: Any, overrides: Mapping[str, Any]) -> None:
    """Warn (TiffStackWarning) if the urlpath of an entry is relative to the current folder.

    Parameters
    ----------
    entry : intake.catalog.local.LocalCatalogEntry
        The catalog entry of a source.
    urlpath : str or list
        Its argument, rendered.
    overrides : mapping
        Options given in Python, where relative to the current folder is as expected.
    """
    folder, written = entry._catalog_dir, entry._open_args.get("urlpath")
    if not folder or not urlpath or {"urlpath", *_template_names(written)} & overrides.keys():
        return
    if is_local(folder) and os.path.realpath(absolute_url(folder)) == os.path.realpath("."):
        return
    url = first_relative(urlpath)
    if url is not None:
        warn(
            f"entry {entry.name!r}: its urlpath {url!r} is relative to the current folder, "
            f"{os.getcwd()}, not to the catalog's, {folder.rstrip('/')}; for the latter "
            f"write {{{{ CATALOG_DIR }}}}/{url.removeprefix('./')}"
        )


def absolute_urlpath(urlpath: Any) -> Any:
    """Return a urlpath that means the same from every folder; a template stays as it is.

    >>> absolute_urlpath(["/data//raw/*.tif", "s3://b/a.tif", "{{ folder }}/*.tif"])
    ['/data/raw/*.tif', 's3://b/a.tif', '{{ folder }}/*.tif']
    """
    if isinstance(urlpath, os.PathLike):
        urlpath = os.fspath(urlpath)
    if isinstance(urlpath, str) and ("{{" in urlpath or "{%" in urlpath):
        return urlpath
    urlpath = urls_of_text(urlpath)
    if isinstance(urlpath, (list, tuple)):
        return [absolute_urlpath(url) for url in urlpath]
    return absolute_url(urlpath) if isinstance(urlpath, str) else urlpath


def collapse_after(folder: str, value: Any) -> Any:
    """Return *value* with one slash after the folder of a catalog. Pure.

    Intake's ``CATALOG_DIR`` ends in a slash, and ``{{ CATALOG_DIR }}/raw`` adds another one, which
    names another folder in a bucket, and one more part of a path in a pattern.

    >>> collapse_after("s3://lab/", ["s3://lab//raw/*.tif", "s3://lab/x//y.tif"])
    ['s3://lab/raw/*.tif', 's3://lab/x//y.tif']
    """
    if isinstance(value, (list, tuple)):
        return [collapse_after(folder, item) for item in value]
    if not isinstance(value, str) or not folder.strip("/"):
        return value
    start = folder.rstrip("/")
    return re.sub(rf"{re.escape(start)}/{{2,}}", lambda _: f"{start}/", value)


def parameter_names(entry: Any) -> set[str]:
    """Return the names of the user parameters of an entry and of its catalogs."""
    return {p.name for p in entry._user_parameters or []}


def rendered_names(entry: Any) -> set[str]:
    """Return the names whose values decide how an entry is rendered: what its templates use.

    Parameters that no template uses are the driver's options, or nobody's.
    """
    used = set(_template_names(entry._open_args)) - _ALWAYS_KNOWN
    return used & parameter_names(entry) | used - set(entry._open_args)


def parameter_values(entry: Any) -> dict[str, Any]:
    """Return the defaults of all parameters, and the folder of the catalog, for templates."""
    values = {p.name: _from_environment(p.expanded_default) for p in entry._user_parameters or []}
    return {"CATALOG_DIR": entry._catalog_dir, **values}


def default_options(entry: Any, options: Container[str]) -> dict[str, Any]:
    """Return the options that an entry gives by parameters of their names alone.

    A parameter with the name of an argument validates that argument. Where ``args`` lacks it, its
    default counts, which Intake would ignore.

    Parameters
    ----------
    entry : intake.catalog.local.LocalCatalogEntry
        The catalog entry of a source.
    options : container of str
        Names of the driver's options.
    """
    own = entry._captured_init_kwargs.get("parameters") or []
    given = set(entry._open_args) | set(_template_names(entry._open_args))
    return {
        p.name: _validated(entry, p, _from_environment(p._default))
        for p in own
        if p.name in options and p.name not in given and p._default is not None
    }


def _from_environment(default: Any) -> Any:
    """Return a parameter's default, with ``env(NAME)`` replaced by the value of the variable."""
    asked = _ENV_DEFAULT.match(default) if isinstance(default, str) else None
    return default if asked is None else os.environ.get(asked[1], "")


def render_overrides(
    entry: Any, given: Mapping[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return overrides as the parameters of their names have them, with their templates rendered.

    Intake renders them only with names that no argument of the entry uses, so that ``CATALOG_DIR``
    would mostly become empty.
    """
    from intake.catalog.utils import expand_templates

    context = {**parameter_values(entry), **before, **given}
    rendered: dict[str, Any] = expand_templates(
        dict(given), context, getenv=entry.getenv, getshell=entry.getshell
    )
    own = {p.name: p for p in entry._user_parameters or []}
    return {k: _validated(entry, own[k], v) if k in own else v for k, v in rendered.items()}


def _validated(entry: Any, parameter: Any, value: Any) -> Any:
    """Return a value of a parameter, of its type.

    Raises
    ------
    OptionError
        If it is not of that type, or outside the bounds of the parameter.
    """
    try:
        return parameter.validate(value)
    except (TypeError, ValueError, SyntaxError):  # Intake reads a text as Python
        shown = _spell_default(parameter.name, value, _names_of_store(entry))
        raise OptionError(
            f"parameter {parameter.name!r} of entry {entry.name!r} must be {_bounds(parameter)}, "
            f"but got {shown!r}",
            entry=entry.name,
        ) from None  # Intake's own text shows the value, which may be a secret


def _bounds(parameter: Any) -> str:
    """Return type and bounds of a parameter as text."""
    limits = {name: getattr(parameter, name) for name in ("min", "max", "allowed")}
    given = [f"{name} {value}" for name, value in limits.items() if value is not None]
    return ", ".join([parameter.type, *given])


def option_overrides(
    entry: Any, overrides: Mapping[str, Any], options: Container[str]
) -> dict[str, Any]:
    """Return which overrides go to the driver: not what templates use, nor a mere parameter."""
    others = rendered_names(entry) | {p for p in parameter_names(entry) if p not in options}
    return {k: v for k, v in overrides.items() if k not in others}


def spell_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments given in Python as the ``args`` of an entry: templates without secrets.

    Rendered by Intake, they are what was given. Reads only the working directory.
    """
    absolute = dict(given)
    if "urlpath" in given:
        absolute["urlpath"] = _absolute_path(given["urlpath"])
    spelled: dict[str, Any] = mask_secrets(absolute, is_literal=True)
    return spelled


def _absolute_path(urlpath: Any) -> Any:
    """Return a urlpath, whose braces are not a template, so that it means the same everywhere."""
    urlpath = urls_of_text(urlpath)
    if isinstance(urlpath, (list, tuple)):
        return [_absolute_path(url) for url in urlpath]
    return absolute_url(os.fspath(urlpath)) if urlpath else urlpath


def spell_entry(
    entry: Any, overrides: Mapping[str, Any], options: Container[str]
) -> dict[str, Any]:
    """Return ``args`` and ``parameters`` of an entry for YAML, with overrides applied.

    Templates stay as written, except ``CATALOG_DIR``: the YAML may be saved in another folder.
    """
    arguments = mask_secrets(_fill_catalog_dir(dict(entry._open_args), entry._catalog_dir))
    if "urlpath" in arguments:
        arguments["urlpath"] = absolute_urlpath(arguments["urlpath"])
    arguments |= spell_arguments(option_overrides(entry, overrides, options))
    spelled: dict[str, Any] = {"args": arguments}
    parameters = {}
    for described in describe_parameters(entry, overrides):
        parameters[described.pop("name")] = described
    for name in sorted(rendered_names(entry) & overrides.keys() - parameters.keys()):
        value = _spell_default(name, overrides[name], _names_of_store(entry))
        parameters[name] = {"description": "", "type": type(value).__name__, "default": value}
    if parameters:
        spelled["parameters"] = parameters
    return spelled


def describe_parameters(entry: Any, overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the user parameters of an entry, as Intake describes them, without secrets."""
    of_store = _names_of_store(entry)
    found = []
    for parameter in entry._user_parameters or []:
        described = dict(parameter.describe())
        described["default"] = overrides.get(parameter.name, parameter._default)
        found.append(
            {
                k: _spell_default(parameter.name, v, of_store) if k in _VALUES else v
                for k, v in described.items()
            }
        )
    return found


def _names_of_store(entry: Any) -> set[str]:
    """Return the names that templates in the storage options of an entry use."""
    options = [entry._open_args[name] for name in OF_STORES & entry._open_args.keys()]
    return set(_template_names(options))


def _spell_default(name: str, value: Any, of_store: Container[str]) -> Any:
    """Return a value of a parameter without secrets; Intake fills ``env(NAME)`` without braces."""
    around = "storage_options" if name in of_store else ""
    masked = mask_secrets({around: {name: value}})[around][name]
    is_secret = isinstance(masked, str) and masked != value
    return _BRACED.sub(r"\1", masked) if is_secret else masked


def _template_names(value: Any) -> Iterator[str]:
    """Yield the undeclared names in all templates of a value."""
    from jinja2 import Environment, TemplateSyntaxError, meta

    for text in _templates(value):
        try:
            tree = Environment().parse(text)
        except TemplateSyntaxError as exc:
            raise EntryError(f"{text!r} is not a Jinja template: {exc}") from exc
        # env(NAME) takes the bare name of a variable, which is not a parameter
        called = set(re.findall(r"\b(?:client_)?(?:env|shell)\(\s*(\w+)", text))
        yield from meta.find_undeclared_variables(tree) - called


def _templates(value: Any) -> Iterator[str]:
    """Yield each text in a value that is a template."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _templates(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _templates(item)
    elif isinstance(value, str) and ("{{" in value or "{%" in value):
        yield value


def _fill_catalog_dir(value: Any, folder: str) -> Any:
    if isinstance(value, Mapping):
        return {k: _fill_catalog_dir(v, folder) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fill_catalog_dir(v, folder) for v in value]
    if isinstance(value, str) and folder:
        value = _CATALOG_DIR.sub(lambda _: escape_template(folder.rstrip("/")), value)
        if "CATALOG_DIR" in value:  # within a longer expression
            return f"{{% set CATALOG_DIR = {folder.rstrip('/')!r} %}}{value}"
    return value
