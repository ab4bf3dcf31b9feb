"""A wall clock that follows the test clock, and can be set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio


class FollowingClock:
    """Noon at trio time 0; `offset_s` moves it as a clock that is set, or a suspend, would."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def now(self) -> datetime:
        noon = datetime(2024, 5, 6, 12, tzinfo=UTC)
        return noon + timedelta(seconds=trio.current_time() + self.offset_s)
