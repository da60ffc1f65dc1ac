"""The measure itself: real sessions break nothing, and what is shuffled or lost is found."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from dydx_conn import Frame, ws_frame
from habits import ACCOUNTS, broken, messages, shapes
from sessions import REAL, Session


def accounts(session: Session) -> list[Frame]:
    """Return the account frames of a session."""
    return [frame for frame in session.frames if frame.channel in ACCOUNTS]


CHURN = next(session for session in REAL if str(session) == "05-open-add-reduce-close")
MONEY = next(session for session in REAL if str(session) == "12-withdraw-while-short")


@pytest.mark.parametrize("session", REAL, ids=str)
def test_the_real_software_breaks_none_of_its_own_precedences(session: Session) -> None:
    """In no session, on either channel."""
    assert broken(accounts(session)) == []


def named(frame: Frame, key: str) -> bool:
    """Return whether a frame's contents have a key."""
    return any(key in message.contents for message in messages([frame]))


def without_states(frames: Sequence[Frame]) -> list[Frame]:
    """Lose every position and balance."""
    return [frame for frame in frames if not named(frame, "assetPositions")]


def fills_first(frames: Sequence[Frame]) -> list[Frame]:
    """Let each fill come before the message before it."""
    pairs = zip(frames, [*frames[1:], frames[-1]], strict=True)
    swapped = [(b, a) if named(b, "fills") and a is not b else (a,) for a, b in pairs]
    seen: dict[int, Frame] = {}
    for group in swapped:
        seen |= {frame.seq: frame for frame in group if frame.seq not in seen}
    return list(seen.values())


def without_fills(frames: Sequence[Frame]) -> list[Frame]:
    """Lose every fill."""
    return [frame for frame in frames if not named(frame, "fills")]


def transfers_first(frames: Sequence[Frame]) -> list[Frame]:
    """Let transfers come before all else."""
    return sorted(frames, key=lambda frame: (not frame.is_snapshot, not named(frame, "transfers")))


@pytest.mark.parametrize(
    ("session", "spoil"),
    [
        (CHURN, without_states), (CHURN, fills_first), (CHURN, without_fills),
        (MONEY, transfers_first),
    ],
)  # fmt: skip
def test_what_comes_in_another_order_is_found(
    session: Session, spoil: Callable[[Sequence[Frame]], list[Frame]]
) -> None:
    """Also what does not come at all."""
    assert broken(spoil(accounts(session)))


def test_a_value_that_is_null_is_another_shape() -> None:
    """And so is a key more or less."""
    frames = accounts(CHURN)
    text = next(frame.text for frame in frames if named(frame, "fills"))
    read: Any = msgspec.json.decode(text)
    read["contents"]["fills"][0]["price"] = None
    changed = ws_frame(1, 0, 0, "c1", msgspec.json.encode(read).decode())

    assert len(shapes([changed]) - shapes(frames)) == 1
