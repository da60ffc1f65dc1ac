"""One bot a subaccount: who is refused, what a killed run leaves, and the ids of earlier runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bot.run.acts import state_directory
from bot.run.claim import Claim, ClaimedError, claimed
from dydx_conn import NETWORKS, ConnError, Subaccount
from hypothesis import given
from hypothesis import strategies as some

LOCAL = NETWORKS["local"]
US = Subaccount("dydx1us", 0)

HOLDS = """
import time
from bot.run.claim import claimed
from dydx_conn import NETWORKS, Subaccount
with claimed(NETWORKS["local"], Subaccount("dydx1us", 0), "trade") as claim:
    claim.note(70)
    print("held", flush=True)
    time.sleep(600)
"""


def claim_file() -> Path:
    """Return the one file that is there."""
    (path,) = state_directory().glob("claimed-*")
    return path


def test_a_second_bot_is_refused_with_the_first_ones_number() -> None:
    """And with what shows and stops that one."""
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(ClaimedError) as refused, claimed(LOCAL, US, "trade"):
            pass
        first.kill()

    number = first.pid
    assert refused.value.pid == number
    assert str(refused.value) == (
        "expected nobody else at dydx1us/0 on localdydxprotocol, got bot trade as process "
        f"{number}: bot status {number} shows it, bot halt {number} stops its entries"
    )


def test_what_is_killed_holds_nothing_and_leaves_its_ids() -> None:
    """The file stays and locks nobody out."""
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        first.send_signal(signal.SIGKILL)

    with claimed(LOCAL, US, "trade") as claim:
        assert claim.earlier == ((70, 70 + 1024),)


@pytest.mark.parametrize(
    ("net", "whose"),
    [
        (LOCAL, Subaccount("dydx1us", 1)),
        (LOCAL, Subaccount("dydx1other", 0)),
        (NETWORKS["testnet"], US),
    ],
)
def test_other_subaccounts_and_chains_go_on_side_by_side(net: object, whose: Subaccount) -> None:
    """Only the same subaccount of the same chain is one."""
    with claimed(LOCAL, US, "trade"), claimed(net, whose, "trade"):  # type: ignore[arg-type]
        pass


def test_a_subaccount_that_is_let_go_can_be_held_again() -> None:
    """By the same process, too."""
    for _ in range(2):
        with claimed(LOCAL, US, "trade"):
            pass


def test_a_refused_command_that_is_no_run_is_not_halted() -> None:
    """It ends by itself."""
    with (
        claimed(LOCAL, US, "cancel-all"),
        pytest.raises(ClaimedError, match=rf"got bot cancel-all as process {os.getpid()}$"),
        claimed(LOCAL, US, "trade"),
    ):
        pass


def test_a_holder_that_has_not_written_itself_is_another_bot() -> None:
    """Between the lock and the first word of the file."""
    with claimed(LOCAL, US, "trade"):
        claim_file().write_text("{")
        with (
            pytest.raises(ClaimedError, match=r"got another bot$") as refused,
            claimed(LOCAL, US, "trade"),
        ):
            pass

    assert refused.value.pid == 0


def test_a_file_that_cannot_be_read_stops_no_run() -> None:
    """It knows of no earlier orders then."""
    with claimed(LOCAL, US, "trade"):
        pass
    claim_file().write_bytes(b"\x00half")

    with claimed(LOCAL, US, "trade") as claim:
        assert claim.earlier == ()


def test_what_cannot_be_locked_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the path of what stands there."""
    (tmp_path / "dydx-bot").mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with claimed(LOCAL, US, "trade"):
        pass
    path = claim_file()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")

    refused = pytest.raises(ConnError, match=f"expected to hold dydx1us/0 by {path}, got")
    with refused, claimed(LOCAL, US, "trade"):
        pass


@given(some.integers(0, 2**32 - 1), some.integers(1, 3_000))
def test_every_order_sent_is_in_the_file_before_it_is_sent(first: int, count: int) -> None:
    """Whenever it is killed, and where the numbers come round."""
    path = state_directory().parent / "ids"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    file = os.open(path, os.O_RDWR)
    try:
        claim = Claim(file, "trade")
        for number in range(0, count, 7):
            client_id = (first + number) % 2**32
            claim.note(client_id)
            ((begin, end),) = Claim(file, "trade").earlier
            assert (client_id - begin) % 2**32 < (end - begin) % 2**32
    finally:
        os.close(file)


def test_ids_that_could_not_be_stored_are_with_the_next_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk that was full for one order: a run after this one would halt for a stranger's."""
    with claimed(LOCAL, US, "trade") as claim:
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", lambda *_: os.open("/nowhere/at/all", os.O_RDONLY))
            claim.note(70)
        claim.note(71)

    with claimed(LOCAL, US, "trade") as claim:
        assert claim.earlier == ((70, 71 + 1024),)


def test_the_ids_of_eight_runs_are_stored() -> None:
    """What was sent before them is over, or the account lists it."""
    for number in range(10):
        with claimed(LOCAL, US, "trade") as claim:
            claim.note(number * 10_000)

    with claimed(LOCAL, US, "trade") as claim:
        assert [first for first, _ in claim.earlier] == [n * 10_000 for n in range(2, 10)]
