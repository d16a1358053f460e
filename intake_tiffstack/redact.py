"""Redaction of credentials in options, URLs and messages. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["hide_in_text", "mask_secrets"]

_SECRET_NAME = re.compile(
    r"(^|_)(key|pkey|secret|token|pass|passwd|pwd|auth|sas|sig|cookie|private|connection_string)($|_)"
    r"|secret|passw|passphrase|authorization|credential|signature|apikey"
)
_OPEN_NAME = re.compile(r"key_?(file|path|name)$|^(anon|public|token_type)")
_WELL_KNOWN = {
    "key": "AWS_ACCESS_KEY_ID",
    "secret": "AWS_SECRET_ACCESS_KEY",
    "token": "AWS_SESSION_TOKEN",
}
_USER_INFO = re.compile(
    r"(?P<start>[a-z][a-z0-9+.-]*://(?:[^/@:\s?#]*:)?)[^/\s?#]+@", re.IGNORECASE
)
_SIGNED = re.compile(
    r"(?P<start>[?&][\w.-]*(?:signature|sig|token|credential|key|keyid|password|secret|auth)=)"
    r"(?:(?!::)[^&\s])+",
    re.IGNORECASE,
)


def mask_secrets(value: Any, name: str = "") -> Any:
    """Return *value* with each secret replaced by ``{{ env(NAME) }}``. Pure.

    A value is a secret because of its key (``secret``, ``password``, ``X-Api-Key`` ...), or as the
    user information or signature inside a URL. Templates are kept.

    Examples
    --------
    >>> mask_secrets({"key": "AKIA", "anon": False, "client_kwargs": {"password": "x"}})
    {'key': '{{ env(AWS_ACCESS_KEY_ID) }}', 'anon': False, 'client_kwargs': {'password': \
'{{ env(PASSWORD) }}'}}
    >>> mask_secrets("http://me:word@host/a.tif")
    'http://me:{{ env(URL_PASSWORD) }}@host/a.tif'
    """
    if isinstance(value, Mapping):
        return {k: mask_secrets(v, name if _is_secret(name) else str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_secrets(v, name) for v in value]
    if _is_secret(name) and value is not None and not isinstance(value, bool):
        return value if isinstance(value, str) and "{{" in value else _ask(name)
    if isinstance(value, str):
        return _mask_url(value, "{{ env(URL_PASSWORD) }}", "{{ env(URL_SIGNATURE) }}")
    return value


def hide_in_text(text: str) -> str:
    """Return a message with the secrets inside its URLs hidden. Pure.

    >>> hide_in_text("cannot read https://me:word@host/a.tif?sig=x1")
    'cannot read https://me:***@host/a.tif?sig=***'
    >>> hide_in_text("the name 'a.tif?X-Amz-Signature=x1'")  # the last part of a URL
    "the name 'a.tif?X-Amz-Signature=***"
    """
    return _mask_url(text, "***", "***") if "://" in text or "?" in text else text


def _mask_url(text: str, password: str, signature: str) -> str:
    text = _USER_INFO.sub(lambda found: f"{found['start']}{password}@", text)
    return _SIGNED.sub(lambda found: f"{found['start']}{signature}", text)


def _is_secret(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
    return bool(_SECRET_NAME.search(words)) and not _OPEN_NAME.search(words)


def _ask(name: str) -> str:
    variable = _WELL_KNOWN.get(name.lower()) or re.sub(r"\W", "_", name).upper()
    return f"{{{{ env({variable}) }}}}"
