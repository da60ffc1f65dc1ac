"""Passphrases, and all other secrets that the environment of a process may hold.

A passphrase comes from the environment or is typed at a terminal; it is never an argument, which
every process of the machine could read. What was in the environment is taken out of it, and before
a strategy of a user's is loaded all of it is: its code runs with all rights of the process.
"""

import getpass
import os
import sys
from typing import Final

from dydx_conn import KeyProblem
from pydantic import SecretStr


def passphrase(prompt: str, variable: str = "DYDX_PASSPHRASE") -> SecretStr:
    """Return a passphrase from the environment, or from whoever is at the terminal."""
    if os.environ.get(variable):
        return SecretStr(os.environ.pop(variable))
    if not sys.stdin.isatty():
        raise KeyProblem(f"expected a passphrase in {variable} or typed at a terminal, got neither")
    return SecretStr(getpass.getpass(prompt))


def forget_secrets() -> None:
    """Take keys and passphrases out of the environment, read or not."""
    for name in _SECRETS:
        os.environ.pop(name, None)


KEYS: Final = ("DYDX_MNEMONIC", "DYDX_PRIVATE_KEY")
_SECRETS: Final = (
    *KEYS, "DYDX_PASSPHRASE", "DYDX_NEW_PASSPHRASE", "DYDX_CONFIG_PASSPHRASE",
    "DYDX__DATABASE", "DYDX__DATABASE__URL",
)  # fmt: skip


def new_passphrase() -> SecretStr:
    """Return a new passphrase, which is typed twice."""
    typed = not os.environ.get("DYDX_NEW_PASSPHRASE")
    new = passphrase("new passphrase: ", "DYDX_NEW_PASSPHRASE")
    if typed:
        again = passphrase("and again: ", "DYDX_NEW_PASSPHRASE")
        if again != new:
            raise KeyProblem("expected the same passphrase twice, got two that differ")
    return new
