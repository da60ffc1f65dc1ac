"""An account in the indexer's own words: what it would say of a ledger, field by field.

    Order, Holding, Ledger ──► *_fields ──► contents ──► account_frame ──► Frame (v4_subaccounts)

Who reads an account cannot tell these frames from those of the wire. Each `*_fields` function
is one kind of row of the v4_subaccounts channel; `snapshot` is what a subscription begins with.

Units: what comes in is quantums, subticks and quote quantums, what goes out is the indexer's
decimal text. Nothing here changes an account. Sources: indexer comlink, socks and ender.
"""

from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, Final

import msgspec
from dydx_book import Order
from dydx_conn import (
    SHORT_TERM,
    Frame,
    PerpetualMarket,
    Subaccount,
    event_id,
    subaccount_id,
    ws_frame,
)
from dydx_history import Stamp
from dydx_ledger import Holding, Ledger

__all__ = [
    "Fields", "account_frame", "asset_fields", "fill_fields", "order_fields", "position_fields",
    "snapshot", "transfer_fields",
]  # fmt: skip

# === Text ===

Fields = dict[str, Any]
"""A JSON object of the indexer's, by its names."""

_DECIMALS: Final = Context(prec=28)
_LAST_MILLISECOND: Final = 253_402_300_799_999  # of the year 9999


def _iso(ns: int) -> str:
    # A refused order may name a time that no calendar has.
    milliseconds = max(0, min(ns // 1_000_000, _LAST_MILLISECOND))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(number: Decimal) -> str:
    return f"{number.normalize(_DECIMALS):f}" if number else "0"


def _usdc(quote_quantums: int) -> str:
    return _text(Decimal(quote_quantums).scaleb(-6))


def _average(market: PerpetualMarket, cost: int, quantums: int) -> str | None:
    return _text(_DECIMALS.divide(market.price(cost), quantums)) if quantums else None


# === Rows ===

_TYPES: Final = {"": "LIMIT", "STOP_LOSS": "STOP_LIMIT", "TAKE_PROFIT": "TAKE_PROFIT"}


def position_fields(ledger: Ledger, holding: Holding) -> Fields:
    """Tell a position as it stands, the ended one too."""
    market, size = holding.market, holding.market.size
    value = ledger.part(market.ticker).net_notional if holding.quantums else 0
    return {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "positionId": holding.id, "market": market.ticker,
        "side": "LONG" if holding.is_long else "SHORT", "status": holding.status,
        "size": _text(size(holding.quantums)), "maxSize": _text(size(holding.peak)),
        "netFunding": _usdc(holding.net_funding),
        "entryPrice": _average(market, holding.open_cost, holding.opened),
        "exitPrice": _average(market, holding.close_cost, holding.closed),
        "sumOpen": _text(size(holding.opened)), "sumClose": _text(size(holding.closed)),
        "realizedPnl": _usdc(holding.realized),
        "unrealizedPnl": _usdc(holding.unrealized(value)),
        "createdAt": _iso(holding.created.time_ns),
        "createdAtHeight": str(holding.created.height),
        "closedAt": _iso(holding.ended.time_ns) if holding.ended else None,
    }  # fmt: skip


def asset_fields(ledger: Ledger) -> Fields:
    """Tell the USDC balance; a debt is a SHORT of positive size."""
    return {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "assetId": "0", "symbol": "USDC",
        "side": "SHORT" if ledger.collateral < 0 else "LONG",
        "size": _usdc(abs(ledger.collateral)),
    }  # fmt: skip


def order_fields(order: Order, market: PerpetualMarket, when: Stamp, status: str) -> Fields:
    """Tell how an order stands, in the indexer's word for its status."""
    stateful = order.order_flags != SHORT_TERM
    fields = {
        "id": order.id, "subaccountId": subaccount_id(order.subaccount),
        "clientId": str(order.client_id), "clobPairId": str(order.clob_pair_id),
        "side": order.side, "size": _text(market.size(order.quantums)),
        "price": _text(market.price(order.subticks)),
        "type": _TYPES.get(order.condition_type, "LIMIT"),  # of a refused order it may be anything
        "timeInForce": "IOC" if order.time_in_force == "IOC" else "GTT",
        "postOnly": order.time_in_force == "POST_ONLY", "reduceOnly": order.reduce_only,
        "orderFlags": str(order.order_flags),
        "goodTilBlock": None if stateful else str(order.good_til_block),
        "goodTilBlockTime": _iso(order.good_til_block_time * 1_000_000_000) if stateful else None,
        "ticker": market.ticker, "clientMetadata": str(order.client_metadata),
        "totalFilled": _text(market.size(order.filled)),
        "updatedAt": _iso(when.time_ns), "updatedAtHeight": str(when.height),
        "status": status,
    }  # fmt: skip
    if order.condition_type:
        fields["triggerPrice"] = _text(market.price(order.trigger_subticks))
    return fields


def fill_fields(
    order: Order, market: PerpetualMarket, quantums: int, subticks: int, *, id_: str,
    liquidity: str, type_: str, quote: int, fee: int, builder_fee: int, when: Stamp,
) -> Fields:  # fmt: skip
    """Tell a fill of an order; `fee` is without the builder's, in quote quantums as `quote`."""
    fields = {
        "id": id_, "subaccountId": subaccount_id(order.subaccount), "side": order.side,
        "size": _text(market.size(quantums)), "price": _text(market.price(subticks)),
        "fee": _usdc(fee), "liquidity": liquidity, "type": type_, "orderId": order.id or None,
        "clobPairId": str(order.clob_pair_id), "ticker": market.ticker,
        "quoteAmount": _usdc(quote), "clientMetadata": str(order.client_metadata),
        "createdAt": _iso(when.time_ns), "createdAtHeight": str(when.height),
    }  # fmt: skip
    return fields | ({"builderFee": _usdc(builder_fee)} if builder_fee else {})


def transfer_fields(subaccount: Subaccount, quote_quantums: int, when: Stamp) -> Fields:
    """Tell a deposit from the wallet, or negative a withdrawal to it."""
    wallet = {"address": subaccount.owner}
    ours = wallet | {"subaccountNumber": subaccount.number}
    sender, recipient = (wallet, ours) if quote_quantums > 0 else (ours, wallet)
    return {
        "sender": sender, "recipient": recipient, "symbol": "USDC",
        "size": _usdc(abs(quote_quantums)),
        "type": "DEPOSIT" if quote_quantums > 0 else "WITHDRAWAL",
        "createdAt": _iso(when.time_ns), "createdAtHeight": str(when.height),
        "transactionHash": "",
    }  # fmt: skip


# === Frames ===


def snapshot(ledger: Ledger, when: Stamp) -> Fields:
    """Return the contents that a subscription begins with; no order is open yet."""
    margin, height = ledger.margin, str(when.height)
    subaccount = {
        "address": ledger.subaccount.owner, "subaccountNumber": ledger.subaccount.number,
        "equity": _usdc(margin.net_collateral),
        "freeCollateral": _usdc(margin.free_collateral),
        "openPerpetualPositions": {
            ticker: position_fields(ledger, held) for ticker, held in ledger.holdings.items()
        },
        "assetPositions": {"USDC": asset_fields(ledger)},
        "marginEnabled": True, "updatedAtHeight": height,
        "latestProcessedBlockHeight": height,
    }  # fmt: skip
    return {"subaccount": subaccount, "orders": [], "blockHeight": height}


def account_frame(
    subaccount: Subaccount, type_: str, contents: Fields, number: int, when: Stamp
) -> Frame:
    """Return the `number`th frame of a subaccount's channel: "subscribed" or "channel_data"."""
    message = {
        "type": type_, "connection_id": event_id("connection", subaccount),
        "message_id": number, "id": str(subaccount),
        "channel": "v4_subaccounts", "version": "3.0.0", "contents": contents,
    }  # fmt: skip
    # A view carries no monotonic time: pacing is the recording's business.
    text = msgspec.json.encode(message).decode()
    return ws_frame(when.seq, when.at, when.at, "paper", text)
