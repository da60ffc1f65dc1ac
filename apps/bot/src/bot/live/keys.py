"""Where the signing key comes from, and how it is stored (keys of the keyboard: bot.screen).

    env · keyring:NAME · FILE ──► keys_of ──► Keys
    bot keys address | save FILE | rotate

A passphrase is typed, or comes from the environment (bot.config.passphrase).
"""

import argparse
import os
from pathlib import Path

from dydx_conn import KeyProblem, Keys, rotate

from bot.config.configured import account_settings
from bot.config.passphrase import KEYS, new_passphrase, passphrase
from bot.config.settings import AccountSettings


def keys_of(account: AccountSettings) -> Keys:
    """Read the key from where the account's settings point: env, keyring:NAME, or a file."""
    where = account.keys
    # A permissioned key signs for an account that is not its own.
    expected = "" if account.authenticators else account.address
    if not has_key(account):
        got = f"expected a key in {' or '.join(KEYS)}, or --keys FILE, got none"
        raise KeyProblem(f"{got} (bot trade --help: how to get one)")
    if where == "env":
        return Keys.from_environment(expected=expected)
    if where.startswith("keyring:"):
        return Keys.from_keyring(where.removeprefix("keyring:"), expected=expected)
    if not Path(where).is_file():  # before anybody types a passphrase for it
        # What is no path at all may be a key, mistyped.
        got = repr(where) if len(where.split()) == 1 else f"{len(where.split())} words"
        raise KeyProblem(f"expected env, keyring:NAME or an encrypted key file, got {got}")
    return Keys.from_file(where, passphrase("passphrase: "), expected=expected)


def has_key(account: AccountSettings) -> bool:
    """Return whether anything names a key: the settings, or the environment."""
    return account.keys != "env" or any(os.environ.get(name) for name in KEYS)


def keep_keys(arguments: argparse.Namespace) -> int:
    """Show whose key it is, save it to an encrypted file, or give a file a new passphrase."""
    if (arguments.act == "save") != (arguments.file is not None):
        wanted = "a file to write" if arguments.act == "save" else "no file besides --keys"
        got = arguments.file or "none"
        raise KeyProblem(f"expected {wanted} for bot keys {arguments.act}, got {got}")
    account = account_settings(arguments)
    if arguments.act == "rotate":
        if not Path(account.keys).is_file():  # before anybody types a passphrase for it
            got = "none" if account.keys == "env" else f"no file {account.keys}"
            raise KeyProblem(f"expected --keys FILE for bot keys rotate, got {got}")
        rotate(account.keys, passphrase("old passphrase: "), new_passphrase())
        print(f"{account.keys}: encrypted with the new passphrase")
        return 0
    keys = keys_of(account)
    if arguments.act == "save":
        keys.save(arguments.file, new_passphrase())
        print(f"{arguments.file}: the key of {keys.address}")
    else:
        print(keys.address)
    return 0
