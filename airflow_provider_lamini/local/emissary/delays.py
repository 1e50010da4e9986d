"""How long things take on the platform beyond the real work, so that waiting for them can be tried out."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_lamini.local.emissary import MAX_DELAY, REACTIVATION_SECONDS

Seconds = Annotated[float, Field(ge=0, le=MAX_DELAY)]


class Delays(BaseModel):
    """Seconds that pass until something is ready.

    :param upload: until an uploaded dataset can be used
    :param activation: until a new deployment or engine is ready
    :param reactivation: until a sleeping deployment or engine is awake
    """

    model_config = ConfigDict(extra="forbid")

    upload: Seconds = 0.0
    activation: Seconds = 0.0
    reactivation: Seconds = float(REACTIVATION_SECONDS)
