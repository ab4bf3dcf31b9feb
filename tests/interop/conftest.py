"""Against zrepl itself: ZREPL names its binary; without it all of this is skipped, and says so."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from .pairs import Pair


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)
            item.add_marker(pytest.mark.timeout(600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show both daemons' logs with a failure."""
    report = yield
    pair = getattr(item, "funcargs", {}).get("pair")
    if call.when == "call" and report.failed and isinstance(pair, Pair):
        for daemon in (pair.passive, pair.active):
            report.sections.append((f"log of {daemon.directory.name}", daemon.log()[-6000:]))
        report.sections.append(("status of active", json.dumps(pair.active.jobs(), indent=1)))
    return report
