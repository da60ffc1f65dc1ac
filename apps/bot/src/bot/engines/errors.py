"""What is wrong with an engine; apart from `work`, so that a worker begins without any layer."""

import ssl

from dydx_conn import ConnError


class EngineError(ConnError):
    """An engine that cannot be had as it was chosen, or that went away."""


def why(error: BaseException, *, with_certificates: bool) -> str:
    """Return in a line why nothing was connected to: Dask has the reason at the end of a chain."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    # What tornado makes of a handshake that failed before is a ValueError.
    if with_certificates and any(isinstance(one, ssl.SSLError | ValueError) for one in chain):
        return "one without certificates, or with others than those of --certs"
    if not with_certificates and isinstance(chain[-1], ConnectionResetError):
        return "a connection that it closed: one with certificates wants --certs"
    return f"{type(chain[-1]).__name__}: {chain[-1]}"
