"""Who came by a browser: a cookie that stands for a token, for as long as that token counts.

    POST /login, the token in the form ──► Sessions.begin ──► HttpOnly, SameSite=Strict cookie

The cookie is a random text that is known to this process alone, and never the token: it ends with
the process, after twelve hours, at /logout, or once the token's file has another token.
"""

import secrets
import time
from typing import Final

from bot.serve.tokens import Kind, Tokens

LASTS_S: Final = 12 * 3600
_MOST: Final = 100


class Sessions:
    """The browsers that are logged in; `cookie` is what theirs is called."""

    def __init__(self, tokens: Tokens, port: int) -> None:
        # Cookies of one host are shared by its ports: another bot has another name.
        self.cookie = f"bot-{port}"
        self._tokens = tokens
        self._known: dict[str, tuple[str, int]] = {}

    def begin(self, token: str) -> str | None:
        """Return the cookie of a new session; None where the token is none of ours."""
        if self._tokens.kind_of(token) is None:
            return None
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        name = secrets.token_urlsafe(32)
        self._known[name] = token, time.monotonic_ns()
        return name

    def kind_of(self, name: str) -> Kind | None:
        """Return what a session may do, None if there is none (any more)."""
        token, since = self._known.get(name, ("", 0))
        if not token:
            return None
        kind = self._tokens.kind_of(token)
        if kind is None or time.monotonic_ns() - since > LASTS_S * 1_000_000_000:
            del self._known[name]
            return None
        return kind

    def end(self, name: str) -> None:
        """End a session."""
        self._known.pop(name, None)
