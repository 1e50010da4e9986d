"""The Emissary API of the local platform: projects, datasets, training jobs, deployments, engines and inference."""

from __future__ import annotations

from typing import Final

REACTIVATION_SECONDS: Final = 5
"""Default time that a sleeping deployment or engine takes to wake."""

MAX_DELAY: Final = 3600
"""Maximum seconds that anything takes on the platform beyond the real work."""
