"""Make runs repeat each other: what is random in a test depends on nothing but that test.

For a search among new examples: `pytest --hypothesis-profile random --hypothesis-seed N`.
"""

import sys

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


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed torch, whatever tests ran before in this process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
