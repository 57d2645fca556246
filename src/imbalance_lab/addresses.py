"""Addresses as they may be printed, logged and stored: without user, password or token."""

from __future__ import annotations

import os
import re

_END = r"[^\s'\"<>]"
# user:password@ in any address. A port is no password; a password may hold "/" and "@", so the last @ counts.
_USER = re.compile(rf"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s'\"<>/:@]*:(?!\d{{1,5}}(?:[/?#]|$)){_END}*@")
_TOKEN = re.compile(r"(?P<scheme>\bhttps?://)[^\s'\"<>/@]+@")
_QUERY = re.compile(
    r"(?P<name>[?&](?:[\w-]*(?:password|passwd|pwd|token|secret|signature|credential|api_?key|access_?key)|sig|key)=)"
    r"[^&\s'\"<>#]+",
    re.IGNORECASE,
)
_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SHORTEST = 6  # a shorter value may stand in any word


def without_secrets(text: str) -> str:
    """``text`` with every address in it stripped of user, password and secret parameters.

    The values of the variables that MLflow and S3 take secrets from become ``***`` too, from 6 characters on.
    ``wasbs://container@account`` stays: without a colon only ``http`` and ``https`` name somebody before the ``@``.
    """
    if "://" in text:
        for pattern in (_USER, _TOKEN):
            text = pattern.sub(lambda found: found["scheme"], text)
        text = _QUERY.sub(lambda found: f"{found['name']}***", text)
    for name in _VARIABLES:
        secret = os.environ.get(name, "")
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    return text
