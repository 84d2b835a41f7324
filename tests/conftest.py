"""What every test shares: Hypothesis' profiles, and the rule that a test leaves no state behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from chainrule.circuit import state

# One cache of compiled objects for all the workers of a run, and none of the user's.
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
os.environ["CHAINRULE_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"chainrule-tests-{_RUN}")

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


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last one out empties the cache: the controller of the workers, or the only process."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["CHAINRULE_CACHE_DIR"], ignore_errors=True)
