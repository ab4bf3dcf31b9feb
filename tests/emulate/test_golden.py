"""The emulated commands say what real OpenZFS said: scripts/capture-golden's steps, repeated on them."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import json
import re
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zrepl_trio.emulate.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
GOLDEN: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "tests/golden/zfs/commands.json").read_text()
)

NOT_EMULATED = {
    # commands and options that are refused by name
    "zfs.clone.ok",
    "zfs.destroy.has-clone",
    "zfs.destroy.comma-one-has-clone",
    "zfs.rollback.r-clone",
    "zfs.recv.dry",
    "zfs.send.dry-all-intermediate",
    "zfs.send.all-intermediate",
    "zfs.send.dry-recursive",
    "zfs.send.recursive",
    "zfs.send.dry-saved-none",
    "zfs.send.saved-none",
    "zpool.export.ok",
    "zpool.import.ok",
    "zpool.get.all",
    "zpool.status.one",
    "usage.help",
    # needs a kernel: overlaid mounts, busy directories, devices
    "zfs.create.mountpoint-taken",
    "zfs.recv.mountpoint-outside",
    "zfs.destroy.busy",
    "zfs.unmount.busy",
    "zfs.destroy.filesystem",
    "zpool.create.device-in-use",
    "zpool.create.mountpoint-not-empty",
    "zpool.create.no-vdev-argument",
    # zfs destroys some of the snapshots before it fails; the emulation all or none
    "zfs.list.after-rollback-r-held",
    "zfs.rollback.more-recent-with-bookmark",
    # sizes, columns and orders that are the real pool's own
    "zfs.list.table",
    "zfs.list.one",
    "zfs.list.snapshots-table",
    "zfs.list.used-columns",
    "zfs.mount.list",
    "zpool.list.one",
    "zpool.get.encryption",
    "zfs.create.name-utf8",
    "zfs.recv.volume-x-filesystem-property",
    # keys
    "zfs.get.encryption-on",
    "zfs.get.encryption-on-snapshot",
    "zfs.send.encrypted-plain",
    "zfs.send.encrypted-props",
    "zfs.send.dry-encrypted-raw",
    "zfs.send.encrypted-raw",
    "zfs.recv.encrypted-raw",
    "zfs.get.encrypted-replica",
    "zfs.mount.no-key",
    "zfs.recv.F-raw-onto-unencrypted-placeholder",
    "zfs.recv.F-plain-onto-encrypted-placeholder",
    "zfs.create.encryption-off-below-encrypted",
    "zfs.recv.plain-below-encrypted",
    "zfs.send.encrypted-no-key",
    "zfs.send.dry-encrypted-no-key",
    "zfs.send.encrypted-no-key-raw",
    "zfs.recv.cut-raw",
    "zfs.send.token-raw-dry-vt",
    "zfs.load-key.ok",
    # mountpoints lie in the directory, as with an altroot
    "zfs.get.received",
    "zfs.get.received-in-source-column",
    # %recv is no dataset here; the listing shows what all of the above left
    "zfs.destroy.partial-receive",
    "zfs.list.end",
    # where the stream is cut there, real zfs has got nothing yet, ours a first record
    "zfs.recv.cut-after-begin-s",
    "zfs.recv.left-after-begin-s",
    "zfs.recv.abort-after-begin-s",
}
STEPS = (
    *("usage", "pools", "creating", "snapshots", "listing", "properties", "holds", "destroying"),
    *("big", "rolling_back", "sending", "receiving", "received_properties", "tokens_gone"),
)


def plain(text: str) -> str:
    """Without what differs from run to run, and without the long list of properties."""
    text = re.sub(r"\b1-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+", "TOKEN", text)
    text = re.sub(r"= 0x[0-9a-f]+", "= N", text)
    text = re.sub(r"\b(0x)?[0-9a-f]{6,}\b", "N", text)
    text = re.sub(r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]{2} [\d:]{4,5} 20\d\d", "DATE", text)
    text = re.sub(r"\t\d+(?=[\t\n])", "\tN", text)
    text = re.sub(r"\b[0-9.]+[BKMG]\b( +)?", "S ", text)
    text = re.sub(r"in [0-9.]+ seconds", "in T seconds", text)
    return re.split(r"^usage:", text, maxsplit=1, flags=re.MULTILINE)[0]


def load_script() -> Any:
    loader = importlib.machinery.SourceFileLoader(
        "capture_golden", str(ROOT / "scripts/capture-golden")
    )
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the emulated commands said, by the name of the record."""
    tmp = tmp_path_factory.mktemp("golden")
    script = load_script()
    script.ENV = {**Sandbox(tmp).environment({"PATH": "/usr/bin:/bin"}), "LC_ALL": "C"}
    record, do = script.record, script.do

    def lenient_record(name: str, *args: Any, **kwargs: Any) -> str:
        if name == "zfs.destroy.partial-receive":
            # There is no dataset for it here; what follows needs it gone.
            do("zfs recv -A backup/a")
        elif name not in NOT_EMULATED:
            return str(record(name, *args, **kwargs))
        return ""

    def lenient_do(command: str, *args: Any, **kwargs: Any) -> str:
        try:
            return str(do(command, *args, **kwargs))
        except (SystemExit, subprocess.CalledProcessError):
            assert re.match(r"zfs (clone|destroy tank/\w*(clone|mp|busy))", command), command
            return ""

    script.record, script.do = lenient_record, lenient_do
    script.time = type(
        "Clock", (), {"sleep": staticmethod(lambda _: time.sleep(0.5)), "monotonic": time.monotonic}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the script is one that just ends
        take_steps(script, tmp, lenient_do)
    text = json.dumps(script.RECORDS).replace(str(tmp), "/tmp/golden")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


def take_steps(script: Any, tmp: Path, do: Callable[..., str]) -> None:
    for step in STEPS:
        if step == "big":
            do("zfs create tank/big")
            script.fill(str(tmp / "mnt/tank/big/f"), 70, 3)
            do("zfs snapshot tank/big@1")
            do("zfs send tank/big@1", out=tmp / "stream-big")
            continue
        function = getattr(script, step)
        function(tmp) if inspect.signature(function).parameters else function()


COMPARED = [
    name
    for name in GOLDEN
    if name not in NOT_EMULATED and ".get.all-" not in name and not name.startswith("version.")
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", COMPARED)
def test_emulated_says_what_real_zfs_said(name: str, said: dict[str, dict[str, Any]]) -> None:
    real = GOLDEN[name]
    emulated = said[name]
    for stream in ("stderr", "stdout"):
        expected, got = plain(real[stream]), plain(emulated[stream])
        # the kernel keeps these in no order: it differs from one recording to the next
        if ".holds" in name or name == "zfs.destroy.comma-two-held":
            expected, got = "".join(sorted(expected)), "".join(sorted(got))
        assert got == expected, stream
    assert emulated["rc"] == real["rc"]
