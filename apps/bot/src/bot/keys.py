"""Where the signing key comes from, and how it is stored (keys of the keyboard: bot.screen).

    env · keyring:NAME · FILE ──► keys_of ──► Keys
    bot keys address | save FILE | rotate

A passphrase comes from the environment or is typed at a terminal; it is never an argument,
which every process of the machine could read. What was in the environment is taken out of it, and
before a strategy of a user's is loaded all of it is: its code runs with all rights of the process.
"""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Final

from dydx_conn import KeyProblem, Keys, rotate
from pydantic import SecretStr


def keys_of(arguments: argparse.Namespace) -> Keys:
    """Read the key from where `--keys` points: env, keyring:NAME, or an encrypted file."""
    where = arguments.keys
    # A permissioned key signs for an account that is not its own.
    own = not getattr(arguments, "authenticators", ())
    expected = address_of(arguments) if own else ""
    if where == "env":
        return Keys.from_environment(expected=expected)
    if where.startswith("keyring:"):
        return Keys.from_keyring(where.removeprefix("keyring:"), expected=expected)
    if not Path(where).is_file():  # before anybody types a passphrase for it
        # What is no path at all may be a key, mistyped.
        got = repr(where) if len(where.split()) == 1 else f"{len(where.split())} words"
        raise KeyProblem(f"expected env, keyring:NAME or an encrypted key file, got {got}")
    return Keys.from_file(where, passphrase("passphrase: "), expected=expected)


def has_key(arguments: argparse.Namespace) -> bool:
    """Return whether anything names a key: `--keys`, or the environment."""
    return arguments.keys != "env" or any(os.environ.get(name) for name in _KEYS)


def address_of(arguments: argparse.Namespace) -> str:
    """Return whose account it must be, as typed or from the environment; "" for whoever's."""
    return arguments.address or os.environ.get("DYDX_ADDRESS", "")


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


_KEYS: Final = ("DYDX_MNEMONIC", "DYDX_PRIVATE_KEY")
_SECRETS: Final = (*_KEYS, "DYDX_PASSPHRASE", "DYDX_NEW_PASSPHRASE")


def keep_keys(arguments: argparse.Namespace) -> int:
    """Show whose key it is, save it to an encrypted file, or give a file a new passphrase."""
    if (arguments.act == "save") != (arguments.file is not None):
        wanted = "a file to write" if arguments.act == "save" else "no file besides --keys"
        got = arguments.file or "none"
        raise KeyProblem(f"expected {wanted} for bot keys {arguments.act}, got {got}")
    if arguments.act == "rotate":
        rotate(arguments.keys, passphrase("old passphrase: "), _new_passphrase())
        print(f"{arguments.keys}: encrypted with the new passphrase")
        return 0
    keys = keys_of(arguments)
    if arguments.act == "save":
        keys.save(arguments.file, _new_passphrase())
        print(f"{arguments.file}: the key of {keys.address}")
    else:
        print(keys.address)
    return 0


def _new_passphrase() -> SecretStr:
    typed = not os.environ.get("DYDX_NEW_PASSPHRASE")
    new = passphrase("new passphrase: ", "DYDX_NEW_PASSPHRASE")
    if typed:
        again = passphrase("and again: ", "DYDX_NEW_PASSPHRASE")
        if again != new:
            raise KeyProblem("expected the same passphrase twice, got two that differ")
    return new
