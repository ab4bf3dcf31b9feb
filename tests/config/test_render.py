from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from zrepl_trio.config.load import parse_config
from zrepl_trio.config.render import as_yaml, render_config

NAMES = st.text(st.sampled_from("abz019-_.: "), min_size=1, max_size=9).filter(
    lambda name: name not in {".", ".."} and not name.startswith("_")
)
WORDS = st.one_of(
    st.sampled_from(
        ["yes", "on", "~", "null", "010", "1.0", "{", "#x", "- a", "a: b", "2024-01-01", ""]
    ),
    st.text(
        st.characters(min_codepoint=32, max_codepoint=0x17F, exclude_categories=["Cc"]), max_size=12
    ),
)


@settings(max_examples=40)
@given(
    name=NAMES,
    identities=st.lists(NAMES, min_size=1, max_size=3, unique=True),
    verdicts=st.dictionaries(
        st.sampled_from(["<", "a", "a<", "a/b c", "n", "y<"]), st.booleans(), min_size=1
    ),
    override=st.dictionaries(st.sampled_from(["x", "y", "on", "org.example:a"]), WORDS, max_size=3),
    seconds=st.integers(1, 10**7),
)
def test_a_printed_config_loads_as_the_same(
    name: str,
    identities: list[str],
    verdicts: dict[str, bool],
    override: dict[str, str],
    seconds: int,
) -> None:
    keep = [{"type": "regex", "regex": "^zrepl_", "negate": True}]
    source = {
        "name": f"s{name}",
        "type": "source",
        "serve": {"type": "stdinserver", "client_identities": identities},
        "filesystems": verdicts,
        "snapshotting": {"type": "manual"},
    }
    pull = {
        "name": name,
        "type": "pull",
        "connect": {"type": "tcp", "address": "h:1", "dial_timeout": f"{seconds}ms"},
        "root_fs": "a/b",
        "interval": f"{seconds}s",
        "recv": {
            "properties": {"override": override},
            "bandwidth_limit": {"max": f"{seconds} Kib"},
        },
        "pruning": {"keep_sender": keep, "keep_receiver": keep},
    }
    config = parse_config(as_yaml({"jobs": [source, pull]})).config
    text = render_config(config)
    assert parse_config(text).config == config
    assert render_config(parse_config(text).config) == text


def test_a_config_prints_what_was_set_in_peoples_order() -> None:
    text = "jobs: [{interval: 90m, type: pull, root_fs: a/b, recv: {unmounted: no}, name: x, connect: {type: tcp, address: 'h:1'}, pruning: {keep_receiver: [{count: 1, type: last_n}], keep_sender: [{type: not_replicated}]}}]"
    assert (
        render_config(parse_config(text).config)
        == """\
jobs:
  - name: x
    type: pull
    connect:
      type: tcp
      address: h:1
    pruning:
      keep_sender:
        - type: not_replicated
      keep_receiver:
        - type: last_n
          count: 1
    root_fs: a/b
    interval: 90m
    recv:
      unmounted: false
"""
    )
