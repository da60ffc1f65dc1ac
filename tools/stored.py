"""A few rows of each kind, as a bot stores them, for tests of what reads them."""

from typing import Any

NOON = 1_764_504_000_000_000_000  # 2025-11-30 12:00 UTC
SECOND = 1_000_000_000
ACCOUNT = {"chain_id": "dydx-testnet-4", "account": "dydx1me/0", "ledger": 0}


def order_row(number: int, **fields: Any) -> dict[str, Any]:
    """Return an order, a minute after the one before."""
    at = NOON + number * 60 * SECOND
    return {
        **ACCOUNT, "order_id": f"{number:x}-0000-cafe", "run_id": 1, "id": f"O{number}",
        "client_id": str(number), "ticker": "BTC-USD", "side": "BUY", "type": "LIMIT",
        "size": "0.02", "price": "65000", "filled": "0.02", "status": "FILLED", "created": at,
        "updated": at + SECOND, "verdict_id": "", "words": "", **fields,
    }  # fmt: skip


ROWS: dict[str, list[dict[str, Any]]] = {
    "runs": [
        {"id": number, "mode": "trade", "network": "testnet", "chain_id": "dydx-testnet-4",
         "account": "dydx1me/0", "began": NOON + number, "state": "ended", "recording": recording}
        for number, recording in ((1, "night.jsonl.zst"), (2, ""))
    ],
    "decisions": [
        {"run_id": 1, "id": "D7", "seq": 40, "at": NOON, "ticker": "BTC-USD", "action": "enter",
         "words": "target +0 → +1,300 USDC: momentum 81"},
    ],
    "verdicts": [
        {"run_id": 1, "id": "V3", "seq": 40, "at": NOON, "ticker": "BTC-USD", "kind": "approved",
         "decision_id": "D7", "words": "leverage 0.13 after it"},
    ],
    "orders": [
        order_row(1, verdict_id="V3"),
        order_row(2, ticker="ETH-USD", status="CANCELLED", filled="", reason="USER_CANCELED"),
        order_row(3, run_id=2, id="O1", status="PARTIALLY_FILLED", filled="0.005"),
    ],
    "order_changes": [
        {**ACCOUNT, "order_id": "1-0000-cafe", "run_id": 1, "n": 1, "seq": 41, "at": NOON,
         "status": "OPEN", "filled": "", "reason": ""},
        {**ACCOUNT, "order_id": "1-0000-cafe", "run_id": 1, "n": 2, "seq": 42,
         "at": NOON + SECOND, "status": "FILLED", "filled": "0.02", "reason": ""},
    ],
    "fills": [
        {**ACCOUNT, "fill_id": f"f{number}", "run_id": 1, "id": f"F{number}",
         "order_id": "1-0000-cafe", "seq": 42, "at": NOON + SECOND, "ticker": "BTC-USD",
         "side": "BUY", "size": size, "price": price, "quote": quote, "fee": 162_500,
         "liquidity": "TAKER", "type": "LIMIT", "words": ""}
        for number, size, price, quote in (
            (1, "0.005", "64990", 324_950_000), (2, "0.015", "65010", 975_150_000),
        )
    ],
}  # fmt: skip
