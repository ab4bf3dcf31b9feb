"""The control socket's paths, each answered from memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from zrepl_trio import __version__
from zrepl_trio.control.api import parse_signal
from zrepl_trio.control.documents import status_document, version_document
from zrepl_trio.control.server import Handler
from zrepl_trio.errors import Refused
from zrepl_trio.jobs.base import SignalRefused, Wishes
from zrepl_trio.jobs.supervisor import Supervisor
from zrepl_trio.jobs.tracked import TrackedProcesses
from zrepl_trio.replication.policy import parse_overrides

__all__ = ["control_routes"]

log = structlog.get_logger()

_ALREADY = {"wakeup": "already woken up", "reset": "already reset"}


def control_routes(
    supervisor: Supervisor,
    processes: TrackedProcesses,
    *,
    started: datetime,
    internal: Sequence[str] = (),
) -> Mapping[str, Handler]:
    """`/version`, `/status` and `/signal` of zrepl, about these jobs, and those that are `internal`."""

    def version(_body: bytes) -> object:
        host = os.uname()
        python = f"{platform.python_implementation()} {platform.python_version()}"
        return version_document(
            __version__, os_name=host.sysname.lower(), machine=host.machine, python=python
        )

    def status(_body: bytes) -> object:
        return status_document(
            supervisor.status(),
            active=processes.active,
            stuck=processes.stuck,
            version=__version__,
            started=started,
            internal=internal,
        )

    def signal(body: bytes) -> object:
        request = parse_signal(body)
        log.info("signal received", signal=request.op, signalled_job=request.name)
        match request.op:
            case "wakeup" | "reset" if request.name in internal:
                # zrepl's words, as of passive jobs
                raise SignalRefused(_ALREADY[request.op])
            case "wakeup":
                resolve = [f"{path}={way}" for path, way in request.resolve.items()]
                try:
                    wishes = Wishes(
                        divergence=parse_overrides(resolve),
                        destroy_foreign=request.destroy_foreign,
                    )
                except Refused as error:
                    raise SignalRefused(str(error)) from error
                supervisor.wakeup(request.name, wishes)
            case "reset":
                supervisor.reset(request.name)
            case _:
                raise SignalRefused(f'operation "{request.op}" is invalid')
        return {}

    return {"/version": version, "/status": status, "/signal": signal}
