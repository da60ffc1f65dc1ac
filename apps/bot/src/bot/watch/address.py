"""Whose account is meant: an address of the chain, and maybe one of its subaccounts."""

from typing import Final

import msgspec
from dydx_conn import PARENTS, ConnError, Subaccount, address_objection

_MOST: Final = 128_000


class AddressError(ConnError):
    """A text that names no account: it says what was expected."""


class Target(msgspec.Struct, frozen=True, order=True):
    """An address, and the number of the subaccount that was typed; None means all of them."""

    owner: str
    number: int | None = None

    def __str__(self) -> str:
        return self.owner if self.number is None else f"{self.owner}/{self.number}"

    def means(self, subaccount: Subaccount) -> bool:
        """Return whether a subaccount is meant: a parent's number means its children, too."""
        if subaccount.owner != self.owner:
            return False
        return self.number in (None, subaccount.number, parent_of(subaccount.number))


def parent_of(number: int) -> int:
    """Return the number of a subaccount's parent, which may be itself."""
    return number % PARENTS


def target(text: str) -> Target:
    """Read ADDRESS or ADDRESS/N; `AddressError` says what was expected.

    >>> str(target("dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6km/128"))
    'dydx1lwzy434rmz8ufxkeak36xgpuzk9k9csx0sn6km/128'
    """
    owner, slash, number = text.strip().partition("/")
    if objection := address_objection(owner):
        raise AddressError(objection)
    if not slash:
        return Target(owner.lower())
    if not (number.isascii() and number.isdigit() and len(number) <= 6 and int(number) <= _MOST):
        what = f"expected a subaccount between 0 and {_MOST} behind the address"
        raise AddressError(f"{what}, got {number[:20]!r}")
    return Target(owner.lower(), int(number))
