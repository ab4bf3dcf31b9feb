from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from zrepl_trio.config.certs import certificate_problems
from zrepl_trio.config.load import parse_config

TLS = """\
jobs:
- name: fetch
  type: pull
  connect:
    type: tls
    address: "h:1"
    server_cn: h
    ca: {folder}/ca.pem
    cert: {folder}/cert.pem
    key: {folder}/key.pem
  root_fs: backup/hosts
  interval: 10m
  pruning: {{keep_sender: [{{type: not_replicated}}], keep_receiver: [{{type: last_n, count: 1}}]}}
global:
  logging:
  - {{type: tcp, level: warn, format: json, address: "h:1", tls: {{ca: {folder}/ca.pem, cert: {folder}/cert.pem, key: {folder}/key.pem}}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = trustme.CA()
    issued = authority.issue_cert("h")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    return tmp_path


def problems(folder: Path) -> list[str]:
    found = certificate_problems(parse_config(TLS.format(folder=folder)))
    return [f"{problem.line} {problem.key}: {problem.message}" for problem in found]


def test_certificates_that_fit(folder: Path) -> None:
    assert problems(folder) == []


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_files_that_are_missing(folder: Path, name: str) -> None:
    (folder / f"{name}.pem").unlink()
    line = {"ca": 8, "cert": 9, "key": 10}[name]
    assert problems(folder) == [
        f"16 global.logging[0].tls.{name}: cannot read {folder}/{name}.pem: No such file or directory",
        f"{line} jobs[0].connect.{name}: cannot read {folder}/{name}.pem: No such file or directory",
    ]


def test_a_ca_that_is_none(folder: Path) -> None:
    (folder / "ca.pem").write_text("no certificate")
    assert len(problems(folder)) == 2
    assert "ca.pem holds no PEM certificate: " in problems(folder)[1]


def test_a_key_of_another_certificate(folder: Path) -> None:
    trustme.CA().issue_cert("x").private_key_pem.write_to_path(str(folder / "key.pem"))
    assert problems(folder)[1].endswith("are no PEM pair: key values mismatch")


def test_swapped_files(folder: Path) -> None:
    (folder / "key.pem").replace(folder / "x")
    (folder / "cert.pem").replace(folder / "key.pem")
    (folder / "x").replace(folder / "cert.pem")
    assert "are no PEM pair" in problems(folder)[1]
