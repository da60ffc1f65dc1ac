"""Commands that trade: on paper, or with orders that are sent."""

from typing import Final

from bot.commands.command import Command
from bot.options import (
    CONFIG,
    DATABASE,
    KEYS,
    LOG,
    NETWORK,
    PAPER,
    RECORD,
    REPORT_HTML,
    RUN,
    RUNNING,
    SECONDS,
    SIGNING,
    TICKERS,
    WHY,
    option,
)

COMMANDS: Final[dict[str, Command]] = {
    "paper": Command(
        "live frames, paper orders, no keys",
        "bot.live.commands:paper",
        (*NETWORK, *TICKERS, SECONDS, RECORD, *PAPER, DATABASE, REPORT_HTML, *LOG, *RUN),
        "Frames come from the network and orders go to a paper account: nothing is signed, and no"
        " key is needed. It runs until Ctrl-C, or for --seconds; the next run goes on with the "
        "account as it was, also after a crash, and pays the funding of the hours between.",
        (
            ("bot paper --network testnet", "until Ctrl-C"),
            ("bot paper --network testnet --tickers BTC-USD --seconds 600", "ten minutes"),
            ("bot paper --network testnet --record mine.jsonl.zst", "bot replay plays it"),
        ),
    ),
    "trade": Command(
        "live frames, real orders: read bot trade --help first",
        "bot.live.trade:trade",
        (
            *NETWORK,
            *SIGNING,
            *TICKERS,
            SECONDS,
            RECORD,
            option("--flatten", action="store_true", help="close all positions when the run ends"),
            DATABASE,
            REPORT_HTML,
            *LOG,
            *RUN,
        ),
        "Sign and send real orders. Every network but local needs --yes-orders, mainnet "
        "--yes-mainnet as well; at a terminal the words can be typed instead. Ctrl-C cancels the "
        "open orders and reports which positions stay open, unguarded: at a terminal it offers to "
        "close them, --flatten does without a question. A second Ctrl-C ends at once. One bot "
        "trades a subaccount; what somebody else does there halts it, unless --hand-beside. Loss, "
        "drawdown and cool-down count on from one run to the next: what a day may lose is lost "
        "once, however often it is started.",
        (
            ("bot trade --network local", "orders on the venue of this machine"),
            ("bot trade --network testnet --keys my.key --yes-orders", "on the testnet"),
        ),
        """\
from nothing, on a venue of this machine (made-up markets, made-up money):
  uv run tools/venue                                 # in another terminal
  alias bot='uv run bot'                             # where there is no bot
  export DYDX_PRIVATE_KEY=$(openssl rand -hex 32)    # a key that is yours alone
  curl 127.0.0.1:3002/faucet/tokens --json '
    {"address": "'$(bot keys address)'", "amount": 10000}'
  bot trade --network local

on the testnet, with paper money of its faucet, and the key in a file:
  export DYDX_PRIVATE_KEY=$(openssl rand -hex 32)
  bot keys save my.key                               # you choose a passphrase
  curl https://faucet.v4testnet.dydx.exchange/faucet/tokens --json '
    {"address": "'$(bot keys address)'", "subaccountNumber": 0, "amount": 1000}'
  unset DYDX_PRIVATE_KEY
  bot trade --network testnet --keys my.key --yes-orders""",
    ),
    "flatten": Command(
        "close all positions of a subaccount, and cancel its orders",
        "bot.live.trade:flatten",
        (RUNNING, WHY, CONFIG, *NETWORK, *SIGNING),
        "Where a bot trades the subaccount it closes them and is halted until bot resume; without "
        "one they are closed from here. Where no network is typed, or there is no key, it is the "
        "one bot that runs on this machine. What could not be closed is named, and the exit code "
        "is 1.",
        (
            ("bot flatten", "what the bot that runs here holds"),
            ("bot flatten --network local", "without a bot, with the key"),
        ),
    ),
    "cancel-all": Command(
        "cancel all open orders of a subaccount",
        "bot.live.trade:withdraw_all",
        (CONFIG, *NETWORK, *SIGNING),
        "Takes all open orders of the subaccount off the books, whoever placed them. Positions "
        "stay: bot flatten closes them.",
        (
            ("bot cancel-all --network local", "with the key of the environment"),
            ("bot cancel-all --network testnet --keys my.key --yes-orders", ""),
        ),
    ),
    "keys": Command(
        "show whose key it is, or store it in an encrypted file",
        "bot.live.keys:keep_keys",
        (
            option(
                "act",
                choices=("address", "save", "rotate"),
                help="address: print whose key it is; save: encrypt it into a new file; rotate: "
                "give the file of --keys a new passphrase",
            ),
            option("file", nargs="?", help="with save: the new file"),
            CONFIG,
            KEYS,
            option("--address", help="refuse a key of any other address"),
        ),
        "A key is read from where --keys points, never from the command line. In an encrypted "
        "file it is safest; its passphrase is typed, or comes from DYDX_PASSPHRASE, a new one from "
        "DYDX_NEW_PASSPHRASE.",
        (
            ("bot keys address", "whose key the environment holds"),
            ("bot keys save my.key", "encrypt it into a new file"),
            ("bot keys rotate --keys my.key", "another passphrase for that file"),
        ),
    ),
}
