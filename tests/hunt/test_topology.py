"""The configs of scenarios are such as users write, and all that there is comes."""

from __future__ import annotations

from random import Random

import pytest

from tests.hunt.topology import TOPOLOGIES, Topology, topology_of
from zrepl_trio.config.load import parse_config

DRAWN = 60


def _drawn(name: str) -> list[Topology]:
    return [topology_of(name, Random(f"{name}:{number}")) for number in range(DRAWN)]


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_each_copy_is_told_from_all_others(name: str) -> None:
    for topology in _drawn(name):
        for flow in topology.flows:
            dataset = f"{flow.sending}/f0/inner"
            replica = flow.replica_of(dataset)
            assert replica.startswith(f"{flow.root}/")
            assert flow.original_of(replica) == dataset
            assert flow.original_of(dataset) is None
            assert flow.original_of(flow.place) is None


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_each_config_is_one(name: str) -> None:
    for topology in _drawn(name):
        for text in topology.configs.values():
            assert parse_config(text).config.jobs


def test_all_kinds_come() -> None:
    topologies = [each for name in TOPOLOGIES for each in _drawn(name)]
    flows = [flow for topology in topologies for flow in topology.flows]
    protections = {kind for flow in flows for kind in (flow.initial, flow.incremental)}
    assert len(protections) == 3
    assert {flow.divergence for flow in flows} == {"fail", "rollback", "keep_copy"}
    assert {flow.first for flow in flows} == {"most_recent", "all"}
    assert {flow.placeholders for flow in flows} == {"inherit", "off"}
    assert any(flow.strips for flow in flows)
    assert any(topology.raw for topology in topologies)
    text = "\n".join(text for topology in topologies for text in topology.configs.values())
    for word in ("type: cron", "encrypted: true", "max_age", "daily", "target"):
        assert word in text
