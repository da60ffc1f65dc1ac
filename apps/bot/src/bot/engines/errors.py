"""What is wrong with an engine; apart from `work`, so that a worker begins without any layer."""

from dydx_conn import ConnError


class EngineError(ConnError):
    """An engine that cannot be had as it was chosen, or that went away."""
