"""What of a run on history is not of the time that it plays, in words for every report of it."""

from dydx_conn import Header
from dydx_data import BookModel

from bot.times import utc


def assumed_words(header: Header, model: BookModel) -> tuple[str, ...]:
    """Say which market parameters and which books a run on history has; nothing of books recorded.

    A book model that was fitted on the span, or on what came after it, knows what no run could.
    """
    if (history := header.history) is None:
        return ()
    fetched = f"margins and steps of {utc(header.ns)}, when it was fetched"
    of = fetched if header.ns else "margins and steps of a later day"
    words = [f"{of}, and fees as configured, all along"]
    if model.markets and not model.until_ns:
        words.append("books by a model that does not say from when it is: fit it again")
    elif model.markets and model.until_ns > history.since_ns:
        fitted = f"fitted on {utc(model.since_ns)} to {utc(model.until_ns)}"
        begins = f"the recording begins {utc(history.since_ns)}"
        words.append(f"books by a model that knows what came after: {fitted}, {begins}")
    return (*words,)
