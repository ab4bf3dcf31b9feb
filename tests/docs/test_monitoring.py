"""docs/monitoring.md: its configs load, its alerts ask for metrics that there are, and it names them all."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import yaml

from tests.monitoring.test_metrics import fill
from tests.support.docs import ROOT, blocks
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.support import unsupported
from zrepl_trio.monitoring.metrics import Metrics

DOCUMENT = "docs/monitoring.md"
TEXT = (ROOT / DOCUMENT).read_text()


class Noon:
    def now(self) -> datetime:
        return datetime(2024, 5, 6, 12, tzinfo=UTC)


async def families() -> set[str]:
    """The names that a daemon serves."""
    metrics = Metrics(clock=Noon(), monotonic=lambda: 0.0, version="1", about="a")
    fill(metrics)
    text = metrics.page().decode()
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


async def test_every_metric_is_told_and_no_other() -> None:
    rows = set(re.findall(r"^\| `(zrepl_\w+)`", TEXT, re.MULTILINE))
    served = await families()
    assert rows == {name for name in served if name.startswith("zrepl_")}
    named = set(re.findall(r"\b(?:zrepl|process)_[a-z_]+\w", TEXT))
    unserved = set(re.findall(r"`(zrepl_\w+)", TEXT.partition("Not served")[2]))
    labels = {"zrepl_job"}
    assert named - served - unserved - labels == set()


async def test_the_yaml_is_what_it_says() -> None:
    config, scrape, rules = (
        yaml.safe_load(each.text) for each in blocks(DOCUMENT) if each.language == "yaml"
    )
    loaded = parse_config(yaml.safe_dump({**config, "jobs": []}))
    assert unsupported(loaded) == []
    (entry,) = loaded.config.global_.monitoring
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"][0].endswith(
        f":{entry.listen.port}"
    )
    served = await families()
    for rule in rules["groups"][0]["rules"]:
        asked = set(re.findall(r"[a-z_]*zrepl_\w+", rule["expr"])) or {"up"}
        assert asked <= served | {"up"}, rule
        assert rule["alert"]
