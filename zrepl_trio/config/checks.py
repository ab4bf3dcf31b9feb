"""What can be wrong between sections that are each right."""

from __future__ import annotations

from collections.abc import Iterator

from zrepl_trio.config.explain import Loc
from zrepl_trio.config.model import Config
from zrepl_trio.config.transport import StdinserverServe

__all__ = ["cross_problems"]


def cross_problems(config: Config) -> Iterator[tuple[Loc, str]]:
    """Where, and what, for each clash between jobs."""
    served: dict[str, str] = {}
    for index, job in enumerate(config.jobs):
        serve = getattr(job, "serve", None)
        if not isinstance(serve, StdinserverServe):
            continue
        for place, identity in enumerate(serve.client_identities):
            if identity in served:
                message = f"{identity!r} is served by job {served[identity]!r} already"
                yield ("jobs", index, "serve", "client_identities", place), message
            served.setdefault(identity, job.name)
