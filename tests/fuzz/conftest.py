"""Fuzz tests: any input is parsed, or rejected with an error of this package. The number of examples is bounded."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    # Set e.g. FUZZ=20000 for more examples than in CI.
    max_examples=int(os.environ.get("FUZZ", "400")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FUZZ = settings.get_profile("fuzz")
