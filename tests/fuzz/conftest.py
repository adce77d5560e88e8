"""Whatever comes from outside is refused in words or read, and nothing else. How long this looks is bounded."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    # FUZZ=20000 looks longer than CI does.
    max_examples=int(os.environ.get("FUZZ", "400")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FUZZ = settings.get_profile("fuzz")
