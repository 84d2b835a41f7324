"""What every test shares: Hypothesis' profiles, and the rule that a test leaves no state behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from chainrule.circuit import state

# One cache of compiled objects for all the workers of a run, and none of the user's.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
os.environ["CHAINRULE_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"chainrule-tests-{_RUN}")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=20, **_COMMON)
settings.register_profile("ci", max_examples=40, derandomize=True, **_COMMON)
settings.register_profile("intense", max_examples=2000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(autouse=True)
def _no_state_is_left_behind() -> Iterator[None]:
    """A transformation, a `no_grad` or a label that outlives its test would change the next one."""
    yield
    left = (state.depth, state.losses, state.group)
    state.depth, state.losses, state.group = 0, None, None
    assert left == (0, None, None), f"depth, losses and group left behind: {left}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, for the pages of a module; skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as run:
        started = run.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last one out empties the cache: the controller of the workers, or the only process."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["CHAINRULE_CACHE_DIR"], ignore_errors=True)
