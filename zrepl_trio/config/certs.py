"""Do the certificates that a config names exist, parse, and fit together?"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

from zrepl_trio.config.explain import Loc
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.model import OutletTls, TcpOutlet
from zrepl_trio.config.transport import TlsConnect, TlsServe
from zrepl_trio.errors import Problem

__all__ = ["certificate_problems"]

_Tls = TlsConnect | TlsServe | OutletTls


def certificate_problems(loaded: LoadedConfig) -> list[Problem]:
    """Faults of all `ca`, `cert` and `key` files; reads them, and nothing else."""
    return [
        loaded.problem((*loc, key), message)
        for loc, section in _sections(loaded)
        for key, message in _faults(section)
    ]


def _sections(loaded: LoadedConfig) -> Iterator[tuple[Loc, _Tls]]:
    for index, outlet in enumerate(loaded.config.global_.logging):
        if isinstance(outlet, TcpOutlet) and outlet.tls is not None:
            yield ("global", "logging", index, "tls"), outlet.tls
    for index, job in enumerate(loaded.config.jobs):
        for key in ("connect", "serve"):
            section = getattr(job, key, None)
            if isinstance(section, TlsConnect | TlsServe):
                yield ("jobs", index, key), section


def _faults(section: _Tls) -> Iterator[tuple[str, str]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    readable = True
    for key in ("ca", "cert", "key"):
        path: str = getattr(section, key)
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            yield key, f"cannot read {path}: {error.strerror}"
            readable = readable and key == "ca"
    if os.access(section.ca, os.R_OK):
        try:
            context.load_verify_locations(section.ca)
        except (ssl.SSLError, OSError) as error:
            yield "ca", f"{section.ca} holds no PEM certificate: {_reason(error)}"
    if readable:
        try:
            # A passphrase is asked for on the terminal unless one is given.
            context.load_cert_chain(section.cert, section.key, password=b"")
        except (ssl.SSLError, OSError, ValueError) as error:
            yield "cert", f"{section.cert} and {section.key} are no PEM pair: {_reason(error)}"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else str(error)
