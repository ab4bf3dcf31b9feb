"""Install pyproject's `dev` dependency group with whatever pip the venv has.

`pip install --group` came with pip 25.1; the pip of Python 3.11 is older.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text())
sys.exit(
    subprocess.call(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        + project["dependency-groups"]["dev"]
    )
)
