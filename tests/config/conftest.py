"""Deadlines of hypothesis measure how busy the machine is; these tests are about results."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("config", deadline=None)
settings.load_profile("config")
