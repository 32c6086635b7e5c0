"""Make runs repeat each other: what is random in a test depends on nothing but that test.

For a search among new examples: `pytest --hypothesis-profile random --hypothesis-seed N`.
"""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Limits of time fail on a busy machine, not on a wrong answer.
settings.register_profile(
    "random", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "repeatable", settings.get_profile("random"), derandomize=True, database=None
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what failsearch remembers of a user out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path_factory.mktemp("configuration")))
        patch.delenv("FAILSEARCH_TRUST_MODEL", raising=False)
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed torch, whatever tests ran before in this process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
