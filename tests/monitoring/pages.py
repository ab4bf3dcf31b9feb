"""A page of metrics as a test asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Page", "parse_page"]

Page = Mapping[str, float]


def parse_page(text: str) -> Page:
    """All samples, by what stands before the value, labels sorted: `name{a="b",c="d"}`.

    The parser puts `_total` behind counters' names; here names are as they are on the page.
    """
    written = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines()}
    page = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            bare = sample.name.removesuffix("_total")
            name = sample.name if sample.name in written else bare
            assert name in written
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            page[f"{name}{{{labels}}}" if labels else name] = sample.value
    return page
