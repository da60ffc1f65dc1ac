"""What a run on trades or candles makes of a book, and the model that stands for one."""

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.__main__ import main
from bot.backtest.fidelity import Past, candles_of
from bot.config.paper import PaperSettings
from bot.live.runs import until
from bot.report.report import fidelity_words
from bot.run.composition import Bot, Options
from bot.run.front import play
from bot.run.paper import book_model_of
from dydx_conn import (
    ConnError,
    Frame,
    History,
    Recording,
    RecordingWriter,
    WireWriter,
    find_recording,
    from_generator,
    market_fields,
)
from dydx_data import BookModel, BookTerms

DEPTH = (1e3, 2e3, 4e3, 8e3, 16e3, 32e3, 64e3)


def row(minute: int, second: int, price: str, size: str = "1") -> dict[str, str]:
    """Write a trade as the venue does."""
    at = f"2026-11-20T06:{minute:02d}:{second:02d}.000Z"
    return {"id": f"{minute:04d}{second:04d}", "createdAt": at, "price": price, "size": size}


def test_candles_of_trades_are_those_of_the_venue() -> None:
    """Open and close in the order of time; a minute without a trade repeats the last close."""
    made = candles_of("X-USD", [row(2, 5, "3"), row(0, 50, "2"), row(0, 1, "1"), row(0, 30, "5")])

    prices = [(x["open"], x["high"], x["low"], x["close"], x["trades"]) for x in made]
    assert prices == [("1", "5", "1", "2", 3), ("2", "2", "2", "2", 0), ("3", "3", "3", "3", 1)]
    assert candles_of("X-USD", []) == []


@pytest.mark.replays
def test_one_strategy_is_run_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    """On books, on trades and on candles of the same span: each is named, and compared."""
    assert main(["fidelity", "--seconds", "200", "--json"]) == 0

    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert [one["fidelity"] for one in found] == ["book", "trades", "candles"]
    assert len({one["run_hash"] for one in found}) == 3


def test_the_comparison_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A line a run, with what differs from the one on books."""
    assert main(["fidelity", "--seconds", "60"]) == 0

    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[3:7]] == ["fidelity", "book", "trades", "candles"]
    assert "fills" in printed[5]


BUYER = """
from dydx_strategy import Decision


class Buyer:
    name = "buyer"

    def step(self, scored, held):
        if not held.usdc(scored.ticker):
            yield Decision.of(scored, 2_000.0, "one is wanted")


strategy = Buyer
"""


def history_of(seconds: float, path: Path) -> Path:
    """Write the first seconds of the bundled recording as a history of trades and candles."""
    recording = Recording(find_recording("quickstart"))
    goes_on = until(seconds, lambda _: True)
    past = Past(takewhile(goes_on, recording))
    history = History(
        markets=(*sorted(past.trades),), kinds=("trades", "candles", "funding"),
        since_ns=past.since_ns, until_ns=past.until_ns, window_s=86_400,
    )  # fmt: skip
    writer = RecordingWriter(path, msgspec.structs.replace(recording.header, history=history))
    for kind in ("trades", "candles"):
        for page in past._pages(kind):
            writer.write_frame(page)
    writer.close()
    return path


def test_a_fill_on_candles_is_walked_back_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids are those of a run of that fidelity, and so are the frames that they lead to."""
    where, buyer = str(history_of(300, tmp_path / "past.jsonl.zst")), tmp_path / "buyer.py"
    buyer.write_text(BUYER)
    typed = [where, "--config", "none", "--strategy", str(buyer), "--profile", "reckless"]

    for kind, channel in (("candles", "v4_candles"), ("trades", "v4_trades")):
        assert main(["why", "F1", *typed, "--fidelity", kind]) == 0
        shown = capsys.readouterr().out
        behind = shown[shown.index("wire: frames") :]
        assert "one is wanted" in shown
        assert f'"channel":"{channel}"' in behind.replace("\n  ", "")


def test_a_recording_without_trades_has_no_other_fidelity() -> None:
    """There is nothing to make a history of."""
    with pytest.raises(ConnError, match="expected a recording with trades"):
        Past([WireWriter().markets(market_fields("BTC-USD", price=1))])


def test_a_fit_of_books_is_written_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What --out writes is what paper.book_model reads, with its errors."""
    out = tmp_path / "book.json"

    assert main(["calibrate", "--book", "--seconds", "100", "--out", str(out)]) == 0

    model = book_model_of(PaperSettings(book_model=str(out)))
    assert {*model.markets} == {"BTC-USD", "ETH-USD", "SOL-USD"}
    assert all(terms.samples and terms.errors for terms in model.markets.values())
    assert "BTC-USD" in capsys.readouterr().out
    bot = Bot(Options(paper=PaperSettings(book_model=str(out))))
    assert bot.data._past.model == model


def test_a_fit_is_json_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else; too short a recording is refused, with what was expected."""
    assert main(["calibrate", "--book", "--seconds", "60", "--json"]) == 0
    assert "BTC-USD" in json.loads(capsys.readouterr().out)["markets"]

    assert main(["calibrate", "--book", "--seconds", "3"]) == 2
    assert "expected recordings with books and trades" in capsys.readouterr().err


def test_out_without_book_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Maps have an option of their own."""
    assert main(["calibrate", "--out", "never.json"]) == 2
    assert "--out together with --book" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}x", '{"markets":{"A":{"half_spread_bps":1}}}', '{"a":1}'])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, text: str) -> None:
    """With its path, and what was expected."""
    path = tmp_path / "odd.json"
    path.write_text(text)

    with pytest.raises(ConnError, match=r"expected a book model .*odd\.json, got"):
        book_model_of(PaperSettings(book_model=str(path)))
    with pytest.raises(ConnError, match="expected a book model"):
        book_model_of(PaperSettings(book_model=str(tmp_path / "none.json")))


def test_variants_of_one_pass_have_one_model(tmp_path: Path) -> None:
    """They share the books that it makes."""
    path = tmp_path / "book.json"
    import msgspec

    terms = BookTerms(half_spread_bps=1.0, depth_usdc=DEPTH)
    path.write_bytes(msgspec.json.encode(BookModel(markets={"BTC-USD": terms})))
    one, other = Options(paper=PaperSettings(book_model=str(path))), Options()

    def nothing() -> Any:
        yield from list[Frame]()

    assert play(from_generator(nothing), [one])[0].data._past.model.markets == {"BTC-USD": terms}
    with pytest.raises(ConnError, match=r"one paper\.book_model"):
        play(from_generator(nothing), [one, other])


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({"fidelity": "book", "optimism": None}, "book, recorded books"),
        (
            {"fidelity": "trades", "optimism": 0.25},
            "trades, books modelled from trades; the tape bears out 75 % of fills",
        ),
    ],
)
def test_a_report_says_what_its_prices_were(report: dict[str, Any], words: str) -> None:
    """And which share of its fills the tape bears out."""
    assert fidelity_words(report) == words
