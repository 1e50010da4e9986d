"""What the logs say of an unexpected error. The processes that read documents and tune import this, and no web framework."""

from __future__ import annotations

import traceback
from pathlib import Path


def describe_safely(error: BaseException) -> str:
    """Type and code location of an unexpected error. Its message is left out: it may contain a prompt."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    locations = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {locations}"
