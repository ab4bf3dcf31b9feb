from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import PULL


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "zrepl.yml"
    path.write_text(PULL.format(runtime=tmp_path / "run"))
    return path
