"""What goes wrong with model files; every message says what to run next."""

from __future__ import annotations


class ModelError(Exception):
    """The root of what the model store raises. Its message is meant for the user's eyes."""


class ModelMissing(ModelError):  # noqa: N818 - says what happened
    """A model is not in the cache, or its files are damaged. Pulling it helps."""


class UnknownModel(ModelError):  # noqa: N818 - says what happened
    """The catalogue has no model of this name and nothing says where to take it from."""


class PullFailed(ModelError):  # noqa: N818 - says what happened
    """A model could not be fetched. The cache is as it was; pulling again may help."""


class ChecksumMismatch(PullFailed):
    """A fetched file is not the one that is pinned: damaged on the way, or another version."""


class UnreadableModel(ModelError):  # noqa: N818 - says what happened
    """A model file is not of the format that it should have."""
