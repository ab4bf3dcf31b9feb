"""One step: send, receive, confirm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zrepl_trio.endpoint.model import Filesystem, Protection, ReceiveRequest, SendRequest
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.replication.plan import Step

__all__ = ["receive_step", "send_request"]


def send_request(
    filesystem: Filesystem, steps: Sequence[Step], protection: Protection
) -> SendRequest:
    """The step, or the steps that go in one stream, as the sender is asked for it, the same in send,
    dry run and confirmation."""
    return SendRequest(
        filesystem=filesystem.path,
        from_=steps[0].from_,
        between=tuple(step.to for step in steps[:-1]),
        to=steps[-1].to,
        resume_token=steps[0].resume_token,
        protection=protection,
    )


async def receive_step(
    sender: Endpoint,
    receiver: Endpoint,
    request: SendRequest,
    *,
    source_guid: int | None,
    on_progress: Callable[[int], None],
) -> None:
    """Move one stream from the sender into the receiver.

    When it returns, the receiver has verified that it holds the snapshot; the sender has yet to
    be told (`send_completed`). Cancelling ends both commands; a receiver that can keeps what
    it got for a resume.
    """
    async with sender.send(request) as reply:
        reply.stream.on_progress = on_progress
        await receiver.receive(
            ReceiveRequest(
                filesystem=request.filesystem,
                to=request.to,
                between=request.between,
                clear_resume_token=not reply.used_resume_token,
                protection=request.protection,
                source_guid=source_guid,
                raw=reply.raw,
            ),
            reply.stream,
        )
