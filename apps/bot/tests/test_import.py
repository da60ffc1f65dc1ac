"""What people have of the past becomes a recording; nothing wrong gets into it in silence."""

import gzip
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from bot.__main__ import main
from bot.archive.import_rows import (
    Candle,
    Clock,
    Reader,
    Tally,
    Trade,
    UnfitError,
    columns_of,
    in_order,
    medians,
    resolution_of,
    sided,
    stamp,
    unit_of,
)
from bot.archive.verdict import verified
from dydx_conn import Frame, Recording, contents, instant
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

SECOND = 1_000_000_000
NOW = instant("2026-11-30T12:00:00Z")
AT = instant("2025-11-24T16:00:00Z")

Import = Callable[..., tuple[int, str, Path]]


@pytest.fixture
def import_(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Import:
    """Return what imports texts as files of some name, and gives code, report and recording."""
    monkeypatch.chdir(tmp_path)

    def run(files: dict[str, str | bytes], *words: str) -> tuple[int, str, Path]:
        for name, text in files.items():
            Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            code = main(["import", *files, "--out", "made.jsonl.zst", *words])
        except SystemExit as ended:
            code = int(str(ended.code or 0))
        printed = capsys.readouterr()
        return code, printed.out + printed.err, tmp_path / "made.jsonl.zst"

    return run


def trades_csv(count: int = 40, *, header: str = "ts,px,qty,s", price: float = 3000.0) -> str:
    """Write trades two seconds apart, in ms."""
    rows = [header]
    for n in range(count):
        at = (AT + n * 2 * SECOND) // 1_000_000
        rows.append(f"{at},{price + n % 7:.1f},0.{n + 1:03d},{'buy' if n % 2 else 'sell'}")
    return "\n".join(rows) + "\n"


def candles_csv(minutes: Sequence[int], *, start: str = "2025-11-24T16:00:00Z") -> str:
    """Write candles of some minutes after a start, in ISO with a zone."""
    rows = ["time,open,high,low,close,volume"]
    for n in minutes:
        at = stamp(instant(start) + n * 60 * SECOND)
        rows.append(f"{at},240,{241 + n % 3},239,240.5,{n + 1}")
    return "\n".join(rows) + "\n"


MAP = ("--market", "ETH-USD", "--map", "time=ts,price=px,size=qty,side=s")


def on(path: Path, channel: str) -> list[tuple[Frame, Any]]:
    """Return the frames of a channel, with what they hold."""
    frames = [frame for frame in Recording(path) if frame.channel == channel]
    return [(frame, json.loads(frame.text)["contents"]) for frame in frames]


# === Tables ===


def test_trades_of_a_csv_play_as_a_history_of_their_own_times(import_: Import) -> None:
    """Each trade comes at its time, as the file has it; the header names where they are from."""
    code, printed, path = import_({"eth.csv": trades_csv()}, *MAP)

    played = on(path, "v4_trades")
    assert code == 0
    assert "ETH-USD: 40 trades" in printed
    assert "times are in ms" in printed
    assert [frame.at for frame, _ in played] == [AT + n * 2 * SECOND for n in range(40)]
    first = played[0][1]["trades"][0]
    assert (first["price"], first["size"], first["side"]) == ("3000.0", "0.001", "SELL")
    header = Recording(path).header
    assert header.history is not None
    assert header.history.origin == "eth.csv"
    assert "not fetched from the venue" in header.source


def test_a_table_in_any_packing_is_the_same_recording(import_: Import, tmp_path: Path) -> None:
    """CSV, with other separators, packed, as JSON lines or Parquet: the frames are alike."""
    text = trades_csv()
    rows = [line.split(",") for line in text.splitlines()[1:]]
    columns = dict(zip(("ts", "px", "qty", "s"), map(list, zip(*rows, strict=True)), strict=True))
    table = pa.table({
        "ts": pa.array([int(x) for x in columns["ts"]], pa.timestamp("ms", tz="UTC")),
        "px": columns["px"], "qty": columns["qty"], "s": columns["s"],
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "e.parquet")
    names = ("ts", "px", "qty", "s")
    lines = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    packed: dict[str, str | bytes] = {
        "e.csv": text,
        "e.tsv": text.replace(",", "\t"),
        "e.csv.gz": gzip.compress(text.encode()),
        "e.csv.zst": zstandard.compress(text.encode()),
        "e.ndjson": lines,
        "e.parquet": (tmp_path / "e.parquet").read_bytes(),
    }

    made = set()
    for name, content in packed.items():
        code, printed, path = import_({name: content}, *MAP, "--force")
        assert code == 0, printed
        made.add(tuple(frame.text for frame in Recording(path)))
    assert len(made) == 1


def test_columns_without_names_are_numbered(import_: Import) -> None:
    """A table that begins with a row has the columns 1, 2, …, and loses no row."""
    text = "\n".join(trades_csv().splitlines()[1:])
    words = ("--market", "ETH-USD", "--map", "time=1,price=2,size=3,side=4")
    code, printed, path = import_({"eth.csv": text}, *words)

    assert code == 0, printed
    assert len(on(path, "v4_trades")) == 40


def test_candles_play_at_their_end_and_gaps_between_them_are_named(import_: Import) -> None:
    """A minute that is missing is counted, with when it was; the others are all there."""
    minutes = [n for n in range(30) if n not in (7, 8)]
    code, printed, path = import_({"sol.csv": candles_csv(minutes)}, "--market", "SOL-USD")

    played = on(path, "v4_candles")
    assert code == 1
    assert "2 candles of 1MIN are missing between the others (2025-11-24T16:07" in printed
    assert [(frame.at - AT) // (60 * SECOND) for frame, _ in played] == [n + 1 for n in minutes]
    assert played[0][1]["usdVolume"] == "240.5"


def test_several_files_of_several_markets_are_one_recording(import_: Import) -> None:
    """Markets come from the file where it names them; trades and candles stand side by side."""
    lines = trades_csv().splitlines()
    text = "\n".join([f"{lines[0]},symbol", *(f"{line},ETH-USD" for line in lines[1:])])
    other = candles_csv(range(5)).splitlines()
    candles = "\n".join([f"{other[0]},ticker", *(f"{line},SOL-USD-PERP" for line in other[1:])])
    words = ("--map", "time=ts,price=px,size=qty,side=s")
    code, printed, path = import_({"a.csv": text, "b.csv": candles}, *words)

    history = Recording(path).header.history
    assert code == 0, printed
    assert history is not None
    assert (history.markets, history.kinds) == (("ETH-USD", "SOL-USD"), ("trades", "candles"))


@pytest.mark.replays
def test_what_was_imported_verifies_as_a_history_that_is_whole(import_: Import) -> None:
    """Pages lead from the end of each window to its beginning, of trades and of candles."""
    files: dict[str, str | bytes] = {
        "t.csv": trades_csv(13_000),
        "c.csv": candles_csv(range(500), start="2025-11-24T15:00:00Z"),
    }
    code, printed, path = import_({"t.csv": files["t.csv"]}, *MAP)
    whole = [verified(Recording(path))]
    code, printed, path = import_({"c.csv": files["c.csv"]}, "--market", "SOL-USD", "--force")
    whole += [verified(Recording(path))]

    assert code == 0, printed
    assert [verdict.findings for verdict in whole] == [(), ()]
    assert whole[0].rows["trades"] == 13_000


# === Bad input ===


def test_shuffled_doubled_and_absurd_rows_are_put_right_and_counted(import_: Import) -> None:
    """Rows are sorted, the same id counts once, a price ten times its neighbours' is refused."""
    header, *rows = trades_csv(header="ts,px,qty,s,id").splitlines()
    rows = [f"{row},{n}" for n, row in enumerate(rows)]
    mixed = [*rows[20:], *rows[:20], rows[3]]
    mixed[5] = mixed[5].replace(",300", ",3000", 1)
    code, printed, path = import_({"eth.csv": "\n".join([header, *mixed])}, *MAP)

    assert code == 1
    assert "stood later than their time: sorted" in printed
    assert "1 rows that came twice: taken once" in printed
    assert "1 rows whose price is 5 times" in printed
    played = on(path, "v4_trades")
    assert [frame.at for frame, _ in played] == sorted(frame.at for frame, _ in played)
    assert len(played) == 39


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("1764000000000,abc,1,buy", "numbers cannot be read"),
        ("1764000000000,-1,1,buy", "not above 0"),
        ("1764000000000,3000,0,buy", "not above 0"),
        ("1764000000000,3000,1,up", "neither buy nor sell"),
        ("1964000000000,3000,1,buy", "of the future"),
        ("1000000000,3000,1,buy", "before 2010"),
        ("never,3000,1,buy", "without a time"),
        ("2025-11-24T16:00:00Z,3000,1,buy", "of another kind"),
        ("1764000000000,3000", "without the 4 cells"),
        ("1764000000000,1e99,1,buy", "numbers cannot be read"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_itself(import_: Import, row: str, why: str) -> None:
    """It is counted with its line, and those around it are taken."""
    lines = trades_csv(6).splitlines()
    code, printed, path = import_({"eth.csv": "\n".join([*lines[:4], row, *lines[4:]])}, *MAP)

    assert code == 1
    assert f"{why}" in printed
    assert "(line 5)" in printed
    assert len(on(path, "v4_trades")) == 6


@pytest.mark.parametrize(
    ("files", "words", "why"),
    [
        ({"a.csv": "ts,symbol,price,size\n1764000000,BTCUSDT,9,1\n"}, (), "got 'BTCUSDT'"),
        ({"a.csv": "ts,exchange,price,size\n1764000000,binance,9,1\n"}, (), "another venue"),
        ({"a.csv": "ts,price,size\n1764000000,9,1\n"}, (), "expected --market"),
        ({"a.csv": "ts,price\n1764000000,9\n"}, (), "columns for the size of trades"),
        ({"a.csv": trades_csv()}, ("--map", "time=when"), "got 'when'"),
        ({"a.csv": trades_csv()}, ("--map", "when=ts"), "got 'when'"),
        ({"a.csv": trades_csv()}, ("--map", "ts"), "got 'ts'"),
        ({"a.csv": ""}, (), "which is empty"),
        ({"a.xls": "x"}, (), "got a.xls"),
        ({"a.parquet": b"PAR1 and no more"}, (), "whole Parquet"),
        ({"a.csv": "time,price,size\n2025-11-24 16:00,9,1\n"}, MAP[:2], "expected a zone"),
        ({"a.csv": trades_csv()}, (*MAP, "--timezone", "Mars/Base"), "got 'Mars/Base'"),
        ({"a.csv": trades_csv()}, (*MAP, "--time-unit", "h"), "'h'"),
        ({"a.csv": trades_csv()}, (*MAP, "--markets", "none.json"), "none.json"),
        ({"a.csv": trades_csv()}, (*MAP, "--out", "a.zip"), "ends in .jsonl.zst"),
        ({"a.csv": "ts,px,qty,s\n1964000000000,1,1,buy\n"}, MAP, "1 rows of the future"),
        (
            {"a.csv": candles_csv([0, 7, 14, 21])},
            ("--market", "ETH-USD"),
            "got one each 420 s",
        ),
        (
            {"a.csv": candles_csv([0, 1, 2], start="2025-11-24T16:00:30Z")},
            ("--market", "ETH-USD"),
            "begin with their 1MIN",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_refused_and_nothing_is_written(
    import_: Import, files: dict[str, str | bytes], words: tuple[str, ...], why: str
) -> None:
    """One line says what was expected, the exit code is 2, and no file is left."""
    code, printed, path = import_(files, *words)

    assert (code, why in printed) == (2, True), printed
    assert "Traceback" not in printed
    assert [*path.parent.glob("*.zst")] == []


def test_a_file_that_was_cut_off_gives_the_rows_before(import_: Import) -> None:
    """A packed file without its end is imported as far as it goes, and that is counted."""
    packed = gzip.compress(trades_csv(3_000).encode())
    code, printed, path = import_({"eth.csv.gz": packed[: len(packed) // 2]}, *MAP)

    assert code == 1
    assert "ends before its end" in printed
    assert 100 < len(on(path, "v4_trades")) < 3_000


def test_a_recording_that_is_there_is_not_replaced(import_: Import) -> None:
    """The second import of the same name is refused but by --force; a missing file is named."""
    assert import_({"eth.csv": trades_csv()}, *MAP)[0] == 0

    code, printed, _ = import_({"eth.csv": trades_csv()}, *MAP)
    assert (code, "expected a new file" in printed) == (2, True)
    assert import_({"eth.csv": trades_csv()}, *MAP, "--force")[0] == 0
    Path("eth.csv").unlink()
    code, printed, _ = import_({}, "eth.csv", *MAP, "--force")
    assert (code, "which is not here" in printed) == (2, True)
    Path("eth.csv").mkdir()
    code, printed, _ = import_({}, "eth.csv", *MAP, "--force")
    assert (code, "got eth.csv, a directory" in printed) == (2, True)


def test_a_symbol_can_be_taken_for_a_market(import_: Import) -> None:
    """With =SYMBOL rows of that symbol are taken, others are counted and left."""
    text = "ts,symbol,price,size\n1764000000,XBT,90000,1\n1764000001,XAU,9,1\n"
    code, printed, path = import_({"a.csv": text}, "--market", "BTC-USD=XBT")

    assert code == 0, printed
    assert "1 rows of other markets: not wanted" in printed
    assert len(on(path, "v4_trades")) == 1


def test_parameters_come_from_a_file_where_one_is_given(import_: Import) -> None:
    """An answer of the venue names markets that the bundled recordings do not have."""
    described = {"markets": {"NEW-USD": {"ticker": "NEW-USD", "clobPairId": "7"}}}
    Path("m.json").write_text(json.dumps(described))
    words = ("--markets", "m.json", "--market", "NEW-USD", *MAP[2:])
    code, printed, path = import_({"a.csv": trades_csv()}, *words)

    assert code == 0, printed
    assert on(path, "v4_markets")[0][1]["markets"]["NEW-USD"]["clobPairId"] == "7"


# === Rows ===


@settings(max_examples=40)
@given(st.integers(1_300_000_000_000_000_000, NOW), st.sampled_from(["s", "ms", "us", "ns"]))
def test_the_unit_of_a_time_is_found_by_its_size(at_ns: int, unit: str) -> None:
    """Whatever unit a time of these years is written in, it is read as the same time."""
    size = {"s": SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}[unit]
    clock = Clock(now_ns=NOW)

    assert unit_of(Decimal(at_ns // size)) == unit
    assert clock.read(str(at_ns // size)) == at_ns // size * size


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["time", "price", "size", "side", "id"]),
        st.text(max_size=12) | st.sampled_from(["1764000000", "1", "1e3", "nan", "-0", "buy"]),
    )
)
def test_no_row_breaks_the_reader(row: dict[str, str]) -> None:
    """Any texts make a trade that can be, or are counted as refused."""
    tally = Tally()
    columns = columns_of(["time", "price", "size", "side", "id"], {})
    read = Reader(columns, Clock(zone="UTC", now_ns=NOW), tally).read("line 2", row)

    if read is None:
        assert sum(tally.counts.values()) == 1
    else:
        assert isinstance(read, Trade)
        assert Decimal(read.price) > 0
        assert "e" not in read.price.lower()


@settings(max_examples=40)
@given(st.lists(st.floats(1, 100), max_size=30), st.integers(0, 5))
def test_medians_are_those_of_the_neighbours(values: list[float], reach: int) -> None:
    """Each is the middle of its window, which is shorter at the ends."""
    windows = [sorted(values[max(n - reach, 0) : n + reach + 1]) for n in range(len(values))]

    assert medians(values, reach) == [window[len(window) // 2] for window in windows]
    assert not values or medians([values[0]] * 3, reach) == [median([values[0]])] * 3


@settings(max_examples=30)
@given(st.permutations(range(30)), st.lists(st.integers(0, 29), max_size=5))
def test_rows_in_any_order_and_twice_are_the_same_rows(order: list[int], again: list[int]) -> None:
    """Sorted and each once, whatever was done to them."""
    rows = [Trade(AT + n * SECOND, "9", "1", "BUY", str(n)) for n in range(30)]
    mixed = [rows[n] for n in [*order, *again]]

    assert in_order(mixed, Tally()) == rows


def test_a_price_that_stays_where_it_went_is_no_mistake() -> None:
    """A fall to a tenth that lasts is taken; a lone row of it is not."""
    prices = ["100"] * 10 + ["9"] + ["100"] * 10 + ["10"] * 20
    rows = [Trade(AT + n * SECOND, price, "1", "BUY") for n, price in enumerate(prices)]
    tally = Tally()

    assert [row.price for row in in_order(rows, tally)].count("10") == 20
    assert sum(tally.counts.values()) == 1


def test_a_side_that_is_missing_is_the_way_the_price_went() -> None:
    """Up is bought, down is sold, and the same is as before."""
    trades = [Trade(AT, price, "1") for price in ("5", "6", "6", "4", "4")]
    sides = [trade.side for trade in sided(trades, Tally())]

    assert sides == ["BUY", "BUY", "BUY", "SELL", "SELL"]


@settings(max_examples=30)
@given(st.integers(0, 500), st.sampled_from(["1MIN", "5MINS", "1HOUR"]))
def test_a_resolution_is_found_by_the_usual_distance(first: int, name: str) -> None:
    """Candles of any resolution of the venue are known by it."""
    step = {"1MIN": 60, "5MINS": 300, "1HOUR": 3_600}[name] * SECOND
    rows = [Candle((first + n) * step, "1", "1", "1", "1", "0") for n in range(3)]

    assert resolution_of(rows, Tally()) == name


def test_zones_make_times_of_theirs() -> None:
    """A time without a zone is one of the zone that is typed, summer time and all."""
    clock = Clock(zone="Europe/Berlin", now_ns=NOW)

    assert clock.read("2026-07-01 14:00:00") == instant("2026-07-01T12:00:00Z")
    assert clock.read("2026-01-01 14:00:00") == instant("2026-01-01T13:00:00Z")
    assert clock.read("2026-01-01 14:00:00 UTC") == instant("2026-01-01T14:00:00Z")
    with pytest.raises(UnfitError, match="expected a zone"):
        Clock(now_ns=NOW).read("2026-01-01 14:00:00")
    later = datetime.fromtimestamp(NOW // SECOND, UTC) + timedelta(hours=2)
    with pytest.raises(ValueError, match="future"):
        clock.read(later.isoformat())


# === Captures ===

_BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
_TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
_TICKER = "exchange,symbol,timestamp,local_timestamp,funding_rate,index_price"


def book_csv(*rows: str, exchange: str = "dydx-v4", symbol: str = "ETH-USD") -> str:
    """Write rows of ms after AT, whether of a snapshot, side, price and size."""
    lines = [_BOOK]
    for row in rows:
        ms, rest = row.split(",", 1)
        at = AT // 1_000 + int(ms) * 1_000
        lines.append(f"{exchange},{symbol},{at - 3_000},{at},{rest}")
    return "\n".join(lines) + "\n"


ROWS = (
    "0,true,bid,2999.9,1", "0,true,ask,3000.1,2",
    "400,false,bid,2999.8,3", "400,false,ask,3000.1,0", "900,false,ask,3000.2,1.50",
    "2500,false,bid,2999.9,0.5",
)  # fmt: skip


def texts(path: Path, channel: str) -> list[Any]:
    """Return the contents of a channel's messages."""
    found = [each for _, each in on(path, channel)]
    return [one for each in found for one in (each if isinstance(each, list) else [each])]


def test_a_capture_of_a_book_plays_as_the_venue_would_have_sent_it(import_: Import) -> None:
    """A snapshot, then each message with its levels, at its arrival, with blocks in between."""
    code, printed, path = import_({"b.csv": book_csv(*ROWS)})

    frames = [frame for frame, _ in on(path, "v4_orderbook")]
    assert code == 0, printed
    assert "reckoned from the middle of its books" in printed
    assert [(frame.at - AT) // 1_000_000 for frame in frames] == [0, 400, 900, 2500]
    assert frames[0].is_snapshot
    levels = [contents(frame)[0] for frame in frames[1:]]
    assert levels[0].bids == [("2999.8", "3")]
    assert levels[0].asks == [("3000.1", "0")]
    assert levels[1].asks == [("3000.2", "1.5")]
    assert len(texts(path, "v4_block_height")) == 3
    oracles = [each for each in texts(path, "v4_markets") if "oraclePrices" in each]
    assert oracles[0]["oraclePrices"]["ETH-USD"]["oraclePrice"] == "3000"
    assert Recording(path).header.history is None


def test_trades_and_oracle_prices_beside_a_book_come_in_their_turn(import_: Import) -> None:
    """Files are merged by arrival; with index prices none is reckoned."""
    at = AT // 1_000
    trade = f"dydx-v4,ETH-USD,{at + 400_000},{at + 500_000},77,buy,3000.1,0.2"
    ticker = f"dydx-v4,ETH-USD,{at},{at + 100_000},0.00001,3001.5"
    files: dict[str, str | bytes] = {
        "b.csv.gz": gzip.compress(book_csv(*ROWS).encode()),
        "t.csv": "\n".join([_TRADES, trade, trade]),
        "d.csv": "\n".join([_TICKER, ticker, ticker]),
    }
    code, printed, path = import_(files)

    order = [frame.channel for frame in Recording(path) if frame.at > AT][:4]
    (trades,) = texts(path, "v4_trades")
    assert code == 0, printed
    assert "1 rows that came twice" in printed
    assert order == ["v4_markets", "v4_markets", "v4_orderbook", "v4_trades"]
    assert trades["trades"][0]["createdAt"] == "2025-11-24T16:00:00.400Z"
    prices = [each for each in texts(path, "v4_markets") if "oraclePrices" in each]
    assert [each["oraclePrices"]["ETH-USD"]["oraclePrice"] for each in prices] == ["3001.5"]


def test_what_is_wrong_in_a_capture_is_left_out_and_counted(import_: Import) -> None:
    """Levels before a snapshot, far away, or that cannot be read; other markets; late rows."""
    early = book_csv("0,false,bid,2999.9,1").splitlines()[1]
    wrong = (
        *ROWS[:5], "1000,false,bid,29.9,1", "1100,false,bid,x,1", "1200,false,mid,2999,1",
        "700,false,bid,2999.7,1", "90000,false,bid,2999.6,1",
    )  # fmt: skip
    header, *rows = book_csv(*wrong).splitlines()
    other = book_csv("5,true,bid,1,1", symbol="NONE-USD").splitlines()[1]
    code, printed, path = import_({"b.csv": "\n".join([header, early, *rows, other])})

    assert code == 1
    assert "1 changes of a book before its first snapshot" in printed
    assert "1 levels whose price is far from the oracle's" in printed
    assert "2 levels that cannot be read" in printed
    assert "1 rows of markets whose parameters are not known" in printed
    assert "1 messages that stood later than their time: sorted" in printed
    times = [frame.at for frame in Recording(path)]
    assert times == sorted(times)
    heights = [
        int(each.get("blockHeight") or each["height"]) for each in texts(path, "v4_block_height")
    ]
    assert heights[-1] == 91


def test_silences_are_named_and_a_snapshot_behind_one_counts(import_: Import) -> None:
    """Hours in which a capture has nothing, or a table no trade, may be gaps: they are named."""
    later = ("7200000,true,bid,2989.9,1", "7200000,true,ask,2990.1,1")
    code, printed, path = import_({"b.csv": book_csv(*ROWS, *later)})

    books = [frame for frame, _ in on(path, "v4_orderbook")]
    assert code == 0
    assert "1 silences of ten minutes and more" in printed
    assert [frame.is_snapshot for frame in books] == [True, False, False, False, True]
    assert len(texts(path, "v4_block_height")) == 4
    row = f"{AT // 1_000_000 + 9_000_000},3000,1,buy\n"
    code, printed, path = import_({"t.csv": trades_csv() + row}, *MAP, "--force")
    assert (code, "1 silences of an hour and more" in printed) == (0, True)


def test_books_of_another_venue_are_refused(import_: Import) -> None:
    """The exchange stands in each row."""
    code, printed, path = import_({"b.csv": book_csv(*ROWS, exchange="binance-futures")})

    assert (code, "another venue" in printed) == (2, True)
    assert not path.exists()


def test_books_of_cryptofeed_are_read_whole_and_by_change(import_: Import) -> None:
    """A line with a book is a snapshot, one with a delta a change; a line of none is counted."""
    at = AT / 1e9
    about = {"exchange": "DYDX", "symbol": "ETH-USD-PERP", "timestamp": None}
    book = {"bid": {"2999.9": "1"}, "ask": {"3000.1": "2"}}
    lines = [
        about | {"book": book, "receipt_timestamp": at},
        about | {"delta": {"bid": [[2999.8, 3.0]], "ask": []}, "receipt_timestamp": at + 0.5},
        about | {"delta": {"bid": 7}, "receipt_timestamp": at + 0.6},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "{\n"
    code, printed, path = import_({"b.ndjson": text})

    frames = [frame for frame, _ in on(path, "v4_orderbook")]
    assert code == 1
    assert "1 lines that cannot be read" in printed
    assert "1 lines that are no JSON object" in printed
    assert [frame.is_snapshot for frame in frames] == [True, False]
    assert contents(frames[1])[0].bids == [("2999.8", "3")]


def test_raw_messages_stay_as_they_came(import_: Import) -> None:
    """Texts are verbatim, an empty line is a lost link, and markets are described beside them."""
    message = (
        '{"type":"channel_data","connection_id":"x","message_id":3,"id":"ETH-USD",'
        '"channel":"v4_orderbook","version":"1.0.0","contents":{"bids":[["2999","1"]]}}'
    )
    text = "\n".join([
        f"2025-11-24T16:00:00.1234567Z {message}", "", f"2025-11-24T16:00:05.0000000Z {message}",
        "no message", "2025-11-24T16:00:06.0000000Z {}x",
    ])  # fmt: skip
    code, printed, path = import_({"r.ndjson": text})

    frames = [*Recording(path)]
    assert code == 1
    assert "1 lines without a time and a message" in printed
    assert "1 messages that are no JSON object" in printed
    assert [frame.text for frame in frames if frame.channel == "v4_orderbook"] == [message] * 2
    kinds = [(frame.link, frame.kind) for frame in frames]
    assert kinds == [
        ("import", "open"), ("import", "ws"), ("import", "ws"), ("c1", "open"), ("c1", "ws"),
        ("c1", "close"), ("c2", "open"), ("c2", "ws"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"r.ndjson": '2025-11-24T16:00:00.1Z {"e":"depthUpdate"}\n'}, "messages of dYdX v4"),
        ({"b.csv": book_csv(*ROWS), "t.csv": trades_csv()}, "captures alone"),
        (
            {"b.csv": book_csv(*ROWS), "r.ndjson": '2025-11-24T16:00:00.1Z {"type":"connected"}\n'},
            "raw messages alone",
        ),
    ],
)  # fmt: skip
def test_captures_that_do_not_belong_together_are_refused(
    import_: Import, files: dict[str, str | bytes], why: str
) -> None:
    """Nothing is written of them."""
    code, printed, path = import_(files)

    assert (code, why in printed) == (2, True), printed
    assert [*path.parent.glob("*.zst")] == []


def test_trades_of_cryptofeed_beside_its_books(import_: Import) -> None:
    """Lines of trades come in their turn; what is no trade and what cannot be read is counted."""
    at = AT / 1e9
    about = {"exchange": "DYDX", "symbol": "ETH-USD-PERP", "timestamp": at}
    book = {"bid": {"2999.9": "1"}, "ask": {"3000.1": "2"}}
    books = json.dumps(about | {"book": book, "receipt_timestamp": at}) + "\n"
    trade = about | {"side": "buy", "amount": 0.5, "price": 3000.1, "id": None}
    rows = [
        trade | {"receipt_timestamp": at + 1},
        trade | {"receipt_timestamp": at + 2, "side": "unknown"},
        trade | {"receipt_timestamp": at + 3, "price": "x"},
        trade | {"receipt_timestamp": None, "timestamp": None},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    code, printed, path = import_({"b.ndjson": books, "t.ndjson": f"{lines}\n[1]\n"})

    (trades,) = texts(path, "v4_trades")
    (played,) = trades["trades"]
    assert code == 1
    for why in ("that are no trade", "numbers cannot be read", "without a time", "no JSON object"):
        assert f"1 {'lines' if why.startswith('no') else 'rows'}" in printed
        assert why in printed
    assert (played["price"], played["size"], played["side"]) == ("3000.1", "0.5", "BUY")


def test_trades_of_a_capture_alone_are_a_history(import_: Import) -> None:
    """Without a book beside them they are a table, as from anywhere."""
    at = AT // 1_000
    row = f"dydx-v4,ETH-USD,{at},{at + 9},77,buy,3000.1,0.2"
    code, printed, path = import_({"t.csv": f"{_TRADES}\n{row}\n"})

    assert code == 0, printed
    assert Recording(path).header.history is not None


def test_many_messages_and_unreadable_prices_of_a_capture(import_: Import) -> None:
    """What stands late is put right as far as it is near; prices that are none are counted."""
    at = AT // 1_000
    changes = (f"{n},false,bid,2999.{n % 9},{n % 5 + 1}" for n in range(1, 4_300))
    late = "3,false,bid,2999.1,7"
    tickers = [
        f"dydx-v4,ETH-USD,{at},{at + n},0.1,{price}" for n, price in enumerate(("x", "3000"))
    ]
    files: dict[str, str | bytes] = {
        "b.csv": book_csv(*ROWS[:2], *changes, late),
        "d.csv": "\n".join([_TICKER, *tickers]),
    }
    code, printed, path = import_(files)

    times = [frame.at for frame in Recording(path)]
    assert code == 1
    assert "1 messages that stood later" in printed
    assert "1 prices that cannot be read" in printed
    assert times == sorted(times)


def test_captures_may_be_cut_to_one_market(import_: Import) -> None:
    """With --market rows of the others are counted, and left."""
    other = book_csv("5,true,bid,90000,1", symbol="BTC-USD").splitlines()[1]
    words = ("--market", "ETH-USD", "--markets", "quickstart")
    code, printed, path = import_({"b.csv": book_csv(*ROWS) + other}, *words)

    assert code == 0, printed
    assert "1 rows of other markets: not wanted" in printed
    assert {frame.id for frame, _ in on(path, "v4_orderbook")} == {"ETH-USD"}


@pytest.mark.parametrize(
    ("files", "words", "why"),
    [
        ({"a.csv.gz": b"\x1f\x8b\x08\x00"}, MAP, "which is empty"),
        ({"a.csv": trades_csv(), "b.csv": trades_csv()}, ("--map", "time=t9", *MAP[:2]), "'t9'"),
        ({"a.csv": "ts,px,qty,s\n"}, MAP, "the files are empty"),
        ({"a.ndjson": ""}, MAP[:2], "got no columns"),
    ],
)  # fmt: skip
def test_files_without_anything_are_refused(
    import_: Import, files: dict[str, str | bytes], words: tuple[str, ...], why: str
) -> None:
    """A file that holds nothing is named, whatever it is packed in."""
    code, printed, path = import_(files, *words)

    assert (code, why in printed) == (2, True), printed
    assert not path.exists()


def test_without_pyarrow_parquet_is_one_clear_line(
    import_: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra that brings it is named."""
    monkeypatch.setattr("bot.archive.import_files.absent", lambda extra, _: f"no bot[{extra}]")
    code, printed, _ = import_({"a.parquet": b""}, *MAP)

    assert (code, "no bot[parquet]" in printed) == (2, True)


def test_a_full_disk_leaves_nothing(import_: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written in whole is not there at all, and the reason is printed."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bot.archive.imported.RecordingWriter.write_frame", full)
    code, printed, path = import_({"a.csv": trades_csv()}, *MAP)

    assert (code, "No space left" in printed) == (2, True), printed
    assert [*path.parent.glob("*.zst")] == []
