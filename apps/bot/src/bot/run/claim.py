"""One bot a subaccount: who holds it on this machine, and which orders its earlier runs sent.

    bot trade, flatten ──► claimed ──► a locked file, or a refusal that names who holds it
    each order sent ──► Claim.note ──► the range of this run's client ids, for the next run

The lock is the system's own (flock): it ends with its process, however that ends, and a file that
stays behind locks nothing. The file is in the state directory, so that it is of one user of one
machine; what somebody else does to the account, or this user elsewhere, is found by what the
venue reports of it.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

import msgspec
from dydx_conn import ConnError, Network, Subaccount

from bot.run.acts import private, state_file
from bot.system import NO_LINK, lock

# A run takes client ids for so many orders at a time: one write a thousand orders, and what is
# killed in between has sent none that the file does not have.
_AHEAD: Final = 1_024
_RUNS: Final = 8  # whose ids are stored; orders of older ones are listed by the account or over


class ClaimedError(ConnError):
    """Another bot of this machine holds the subaccount; `pid` is its process, 0 if not known."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class Holder(msgspec.Struct):
    """What the file has: who holds the subaccount, and the client ids of its runs, newest last."""

    pid: int = 0
    what: str = ""
    ids: list[tuple[int, int]] = []


class Claim:
    """A subaccount that this process holds; `earlier` are the client ids of the runs before it.

    A range is its first client id and the one after its last, modulo 2**32.
    """

    def __init__(self, file: int, what: str) -> None:
        self.earlier = tuple(_read(file).ids[-_RUNS:])
        self._file, self._holder = file, Holder(os.getpid(), what, [*self.earlier])
        self._first: int | None = None
        self._until: int | None = None  # up to which client id the file has them
        self._write()

    def note(self, client_id: int) -> None:
        """Store that this run sends an order of this number, before it is sent."""
        if self._until is not None and 0 < (self._until - client_id) % 2**32 <= _AHEAD:
            return
        ids, until = self._holder.ids, (client_id + _AHEAD) % 2**32
        if self._first is None:
            self._first = client_id
            ids.append((client_id, until))
        ids[-1] = self._first, until
        with contextlib.suppress(OSError):  # an exit waits for no disk: the next order tries again
            self._write()
            self._until = until

    def _write(self) -> None:
        text = msgspec.json.encode(self._holder)
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))
        os.fsync(self._file)  # once in so many orders: a power cut must not give a number again


@contextlib.contextmanager
def claimed(net: Network, subaccount: Subaccount, what: str) -> Iterator[Claim]:
    """Hold a subaccount for one command; `ClaimedError` if another process of ours holds it."""
    path = state_file("claimed", net, subaccount)
    with contextlib.ExitStack() as stack:
        try:
            private(path.parent)
            file = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o600)
            stack.callback(os.close, file)
            lock(file)
            claim = Claim(file, what)
        except BlockingIOError:
            raise _refused(net, subaccount, _read(file)) from None
        except OSError as error:
            raise ConnError(
                f"expected to hold {subaccount} by {path}, got {error.strerror or error}"
            ) from None
        yield claim


def _read(file: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(file, 65_536, 0), type=Holder)
    except msgspec.MsgspecError:  # nothing yet, or half of it: then nothing is known
        return Holder()


def _refused(net: Network, subaccount: Subaccount, known: Holder) -> ClaimedError:
    number = f" {known.pid}" if known.pid else ""
    who = f"bot {known.what} as process{number}" if known.pid else "another bot"
    reach = (
        ""
        if known.what != "trade"
        else (f": bot status{number} shows it, bot halt{number} stops its entries")
    )
    what = f"expected nobody else at {subaccount} on {net.chain_id}, got {who}{reach}"
    return ClaimedError(what, known.pid)
