"""Checks and text of catalog entries."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from intake_tiffstack.errors import EntryError, warn
from intake_tiffstack.redact import mask_secrets
from intake_tiffstack.storage.urls import absolute_url, first_relative, is_local

__all__ = [
    "absolute_urlpath",
    "check_entry",
    "parameter_names",
    "render_overrides",
    "spell_entry",
    "warn_of_relative",
]

_ALWAYS_KNOWN = frozenset({"CATALOG_DIR", "env", "shell", "client_env", "client_shell"})
_CATALOG_DIR = re.compile(r"\{\{\s*CATALOG_DIR\s*\}\}")


def check_entry(entry: Any, options: frozenset[str]) -> None:
    """Raise if a template uses an unknown name, or a parameter is used by no template.

    Intake accepts both silently: an undefined name renders to nothing, and a parameter with the
    name of an option has no effect unless a template in ``args`` uses it.

    Parameters
    ----------
    entry : intake.catalog.local.LocalCatalogEntry
        The catalog entry of a source.
    options : frozenset of str
        Names of the driver's options.

    Raises
    ------
    EntryError
        If either is found; the message names the entry and what to write.
    """
    arguments: Mapping[str, Any] = entry._open_args
    used = set(_template_names(arguments))
    parameters = parameter_names(entry)
    known = _ALWAYS_KNOWN | parameters | set(arguments)
    for name in sorted(used - known):
        near = get_close_matches(name, known, n=1)
        names = ", ".join(map(repr, sorted(parameters))) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"its parameters: {names}"
        if name in _template_names(arguments.get("pattern")):
            hint += f"; a field of a pattern has one brace: {{{name}}}"
        raise EntryError(
            f"entry {entry.name!r} uses the template name {name!r}, which is not a parameter "
            f"and would render to nothing; {hint}",
            entry=entry.name,
        )
    own = {p.name for p in entry._captured_init_kwargs.get("parameters") or []}
    for name in sorted(own & options - used):
        raise EntryError(
            f"entry {entry.name!r} has a parameter {name!r}, which no template uses, so that it "
            f'has no effect; write {name}: "{{{{ {name} }}}}" under args, or drop the parameter',
            entry=entry.name,
        )


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
    if not folder or {"urlpath", *_template_names(written)} & overrides.keys():
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
    if isinstance(urlpath, (list, tuple)):
        return [absolute_urlpath(url) for url in urlpath]
    if isinstance(urlpath, os.PathLike):
        urlpath = os.fspath(urlpath)
    if not isinstance(urlpath, str) or "{{" in urlpath or "{%" in urlpath:
        return urlpath
    return absolute_url(urlpath)


def parameter_names(entry: Any) -> set[str]:
    """Return the names of the user parameters of an entry and of its catalogs."""
    return {p.name for p in entry._user_parameters or []}


def render_overrides(
    entry: Any, given: Mapping[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return overrides with their templates rendered, by the entry's folder and parameters.

    Intake renders them only with names that no argument of the entry uses, so that ``CATALOG_DIR``
    would mostly become empty.
    """
    from intake.catalog.utils import expand_templates

    parameters = {p.name: p.expanded_default for p in entry._user_parameters or []}
    context = {"CATALOG_DIR": entry._catalog_dir, **parameters, **before, **given}
    rendered: dict[str, Any] = expand_templates(
        dict(given), context, getenv=entry.getenv, getshell=entry.getshell
    )
    return rendered


def spell_entry(entry: Any, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``args`` and ``parameters`` of an entry for YAML, with overrides applied.

    Templates stay as written, except ``CATALOG_DIR``: the YAML may be saved in another folder.
    """
    arguments = _fill_catalog_dir(dict(entry._open_args), entry._catalog_dir)
    names = parameter_names(entry)
    arguments.update({k: v for k, v in overrides.items() if k not in names})
    spelled: dict[str, Any] = {"args": mask_secrets(arguments)}
    parameters = {}
    for parameter in entry._user_parameters or []:
        described = {k: v for k, v in parameter.describe().items() if k != "name"}
        described["default"] = overrides.get(parameter.name, parameter._default)
        parameters[parameter.name] = {
            k: mask_secrets(v, parameter.name if k == "default" else "")
            for k, v in described.items()
        }
    if parameters:
        spelled["parameters"] = parameters
    return spelled


def _template_names(value: Any) -> Iterator[str]:
    """Yield the undeclared names in all templates of a value."""
    from jinja2 import Environment, TemplateSyntaxError, meta

    if isinstance(value, Mapping):
        for item in value.values():
            yield from _template_names(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _template_names(item)
    elif isinstance(value, str) and ("{{" in value or "{%" in value):
        try:
            tree = Environment().parse(value)
        except TemplateSyntaxError as exc:
            raise EntryError(f"{value!r} is not a Jinja template: {exc}") from exc
        # env(NAME) takes the bare name of a variable, which is not a parameter
        called = set(re.findall(r"\b(?:client_)?(?:env|shell)\(\s*(\w+)", value))
        yield from meta.find_undeclared_variables(tree) - called


def _fill_catalog_dir(value: Any, folder: str) -> Any:
    if isinstance(value, Mapping):
        return {k: _fill_catalog_dir(v, folder) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fill_catalog_dir(v, folder) for v in value]
    if isinstance(value, str) and folder:
        value = _CATALOG_DIR.sub(lambda _: folder.rstrip("/"), value)
        if "CATALOG_DIR" in value:  # within a longer expression
            return f"{{% set CATALOG_DIR = {folder.rstrip('/')!r} %}}{value}"
    return value
