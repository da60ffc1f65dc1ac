"""The paper venue of a run, and whose account is on it.

PaperSettings (bot.config.paper) ──► Paper ──► account frames, as the venue would send them
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from dydx_conn import (
    Accounts,
    AccountUpdate,
    ConnError,
    Frame,
    OrderState,
    Stranger,
    Subaccount,
)
from dydx_data import BookModel
from dydx_paper import PaperVenue
from dydx_risk import Risk

from bot.config.paper import PaperSettings
from bot.system import reason

PAPER: Final = "paper"
_NAME: Final = re.compile(r"[a-z0-9]{1,32}")
AS_IT_IS: Final = PaperSettings()


def paper_account(name: str) -> Subaccount:
    """Return the subaccount of a paper account; `ConnError` for what is no name."""
    if not _NAME.fullmatch(name):
        what = "expected the name of a paper account, of up to 32 small letters and digits"
        raise ConnError(f"{what}, got {name!r}")
    return Subaccount(f"dydx1{name}", 0)


def book_model_of(settings: PaperSettings) -> BookModel:
    """Return how books are modelled where none was recorded; `ConnError` for a bad file."""
    if settings.book_model is None:
        return BookModel()
    what = f"expected a book model of bot calibrate --book in {settings.book_model}"
    try:
        return msgspec.json.decode(Path(settings.book_model).read_bytes(), type=BookModel)
    except (OSError, ValueError) as error:
        raise ConnError(f"{what}, got {reason(error)}") from None


class Paper(PaperVenue):
    """A paper venue: its account frames are its own, and none comes by the wire."""

    def __init__(
        self, subaccount: Subaccount, deposit: int, settings: PaperSettings = AS_IT_IS
    ) -> None:
        super().__init__(subaccount, deposit, **settings.choices())
        self.accounts = Accounts([subaccount])

    def begin(self, risk: Risk) -> None:
        """Need nobody's judgement."""

    def receive(self, frame: Frame) -> Iterable[Frame]:
        """Return the blocks: by them all is reported; an account on the wire is another's."""
        return (frame,) if frame.channel == "v4_block_height" else ()

    def learn(self, update: AccountUpdate) -> None:
        """Know it already: its own ledger holds more."""

    def cancel(self, states: Iterable[OrderState]) -> list[Frame]:
        """Take these orders off the books, each by a cancel of its own."""
        named = (state.named for state in states if state.named is not None)
        return [frame for cancel in named for frame in self.step(cancel)]

    def strangers(self) -> Iterable[Stranger]:
        """Return none: nobody else has a paper account."""
        return ()
