"""Make hypothesis repeat itself: a landing must not hang on which examples a run draws.

For a search among new examples: `pytest --hypothesis-profile random --hypothesis-seed N`.
"""

from hypothesis import HealthCheck, settings

# Limits of time fail on a busy machine, not on a wrong answer.
settings.register_profile(
    "random", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "repeatable", settings.get_profile("random"), derandomize=True, database=None
)
settings.load_profile("repeatable")
