"""A report of a run: as a page that needs nothing else, as JSON, and from the database."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from bot.__main__ import main
from bot.history.reading import reading, require_run
from bot.live import report as reported
from bot.pages import stored
from bot.pages.report_page import report_page
from bot.pages.shape import (
    Cost,
    Entry,
    Fill,
    MarketSum,
    Named,
    Quality,
    Reason,
    Report,
    Setting,
    Trade,
    Trouble,
    Wire,
    schema,
)
from bot.pages.style import plotly_js
from dydx_panels import EquityPart
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.traced


class Made:
    """What one replay of the smallest recording left: its page, its JSON, and a database."""

    def __init__(self, folder: Path) -> None:
        self.page, self.json, self.beside = (folder / name for name in ("a.html", "a.json", "b"))
        self.database, self.stored, self.stored_json = (
            folder / name for name in ("bot.db", "s.html", "s.json")
        )
        none = ["--config", "none"]
        written = ["--html", str(self.page), "--json", str(self.json)]
        assert main(["report", "account", *written, *none]) == 0
        database = ["--database", str(self.database)]
        beside = ["--journal", *database, "--report-html", str(self.beside), "--quiet"]
        assert main(["replay", "account", "--plain", *beside, *none]) == 0
        files = ["--html", str(self.stored), "--json", str(self.stored_json)]
        assert main(["report", "--run", "1", *database, *files, *none]) == 0

    @property
    def report(self) -> Report:
        """Return the report that was written as JSON."""
        return msgspec.json.decode(self.json.read_bytes(), type=Report)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Return what was made of one run, once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "STATE", "CONFIG"):
            patch.setenv(f"XDG_{name}_HOME", str(tmp_path_factory.mktemp(name.lower())))
        yield Made(tmp_path_factory.mktemp("report"))


class Tags(HTMLParser):
    """The tags of a page, its attributes, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.islands: dict[str, str] = {}
        self.text = ""
        self._of = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._of = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        """Take a text."""
        if self._of:
            self.islands[self._of] = self.islands.get(self._of, "") + data
        self.text += data


# === A run ===


def test_a_page_reaches_no_host_and_runs_no_script_but_its_own(made: Made) -> None:
    """It loads nothing, its policy forbids every host, and names its scripts by their hashes."""
    text = made.page.read_text("utf-8")
    found = Tags(text.replace(plotly_js(), ""))
    policy = next(value for name, value in found.attributes if value.startswith("default-src"))

    assert not [name for name, _ in found.attributes if name in ("src", "srcset", "action")]
    assert all(value.startswith("#") for name, value in found.attributes if name == "href")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert text.count(plotly_js()) == 1


def test_a_page_is_of_a_sane_size(made: Made) -> None:
    """Nearly all of it is plotly."""
    assert made.page.stat().st_size < 6_000_000


def test_the_report_of_a_recording_has_the_hash_of_its_run(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is gathered and timed changes nothing of what is decided."""
    assert main(["replay", "account", "--json", "--config", "none"]) == 0

    assert json.loads(capsys.readouterr().out)["run_hash"] == made.report.run_hash


def test_every_chart_of_a_page_has_its_figure(made: Made) -> None:
    """What a place names is in the island, and the other way round."""
    found = Tags(made.page.read_text("utf-8").replace(plotly_js(), ""))
    places = {value for name, value in found.attributes if name == "data-chart"}

    assert places == {*json.loads(found.islands["charts"])}
    assert {"equity", "drawdown", "exposure", "distance", "latency", "costs"} <= places


def test_every_why_of_a_page_can_be_walked_back_to_the_wire(made: Made) -> None:
    """An id of a button is an entry, its parents are there, and of each frame the text."""
    found = Tags(made.page.read_text("utf-8").replace(plotly_js(), ""))
    entries, wire = (json.loads(found.islands[name]) for name in ("entries", "wire"))
    ids = {value for name, value in found.attributes if name == "data-id"}

    assert ids
    assert ids <= {*entries}
    for entry in entries.values():
        assert entry["parent"] in ("", *entries)
        assert all(str(seq) in wire for seq in entry["frames"])


def test_a_trade_has_its_fills_and_adds_up(made: Made) -> None:
    """Realized, funding and fees make the net, to the quantum, and the fills are there."""
    from decimal import Decimal

    report, fills = made.report, {fill.id for fill in made.report.fills}

    assert report.trades
    for trade in report.trades:
        parts = (trade.realized, trade.unrealized, trade.funding, trade.fees, trade.net)
        realized, unrealized, funding, fees, net = (Decimal(part or "NaN") for part in parts)
        assert realized + unrealized + funding - fees == net
        assert trade.fills
        assert {*trade.fills} <= fills


def test_json_is_as_its_schema_has_it(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """Every field of the file is described, and `--schema` prints the description."""
    assert main(["report", "--schema"]) == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(schema()))
    described = printed["$defs"]["Report"]["properties"]
    assert {*json.loads(made.json.read_text("utf-8"))} == {*described}


def test_json_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """For a program there is nothing else on stdout, and no page."""
    with mock.patch.object(reported, "_replayed") as replayed:
        replayed.return_value = (_report("x"), 0)
        assert main(["report", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["schema"] == "bot.report/1"


def test_what_ends_in_no_json_is_no_file_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json quickstart` would write over nothing and play another recording: it is refused."""
    with pytest.raises(SystemExit, match="2"):
        main(["report", "--json", "quickstart"])

    assert "expected a file that ends in .json, got 'quickstart'" in capsys.readouterr().err


def test_a_page_without_a_name_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is called by its recording or its run, and by the first number that is free."""
    monkeypatch.chdir(tmp_path)
    found = _report("../my run.jsonl.zst"), 0
    with (
        mock.patch.object(reported, "_replayed", return_value=found),
        mock.patch.object(reported, "_stored", return_value=found),
    ):
        assert [main(["report", *run]) for run in ([], [], ["--run", "7"])] == [0, 0, 0]

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report-my-run-2.html",
        "report-my-run.html",
        "report-run-7.html",
    ]
    assert "report-my-run.html: 1 trades" in capsys.readouterr().out


def test_a_page_needs_plotly_before_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is played where nothing could be drawn; JSON needs none."""
    monkeypatch.setattr("bot.system.find_spec", lambda _: None)

    assert main(["report"]) == 2
    assert (
        "expected bot[web] to be installed for bot report, got no plotly" in capsys.readouterr().err
    )


def test_no_secret_of_the_settings_is_in_a_report() -> None:
    """A password of an address or of a database is a row of stars, its origin is shown."""
    from bot.config.loaded import load
    from bot.pages.of_run import settings_of

    secret = "hunter22"
    typed = {
        "endpoints.rest": ("--rest", f"https://me:{secret}@x.example"),
        "database.url": ("--database", f"postgresql://me:{secret}@x.example/bot"),
    }
    found = {one.path: one for one in settings_of(load(typed, environment={}))}

    assert not any(secret in one.value for one in found.values())
    assert found["database.url"].origin == "--database"
    assert found["policy.act_below"].value == "0.1"


def test_a_long_run_is_cut_and_says_by_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables have the newest rows, chains what those need, and what is missing is counted."""
    from bot.pages import of_run
    from bot.pages.gathered import Gathered
    from bot.run.composition import Bot, Options
    from dydx_conn import load_recorded_stream

    monkeypatch.setattr(of_run, "ROWS", 2)
    monkeypatch.setattr(of_run, "MARKETS", 1)
    bot = Bot(Options())
    gathered = Gathered(bot)
    gathered.follow()
    bot.run(load_recorded_stream("account"))
    gathered.end()
    report = of_run.report_of_run(bot, gathered, of_run.Source("x", "replay", "local"))

    assert len(report.decisions) == len(report.fills) == 2
    assert {"3 of 5 fills, the oldest", "4 of 6 decisions, the oldest"} <= {*report.left_out}
    assert any(words.startswith("the candles of 2 of 3 markets") for words in report.left_out)
    assert {*report.decisions} < {*report.entries}
    assert all(entry.parent in ("", *report.entries) for entry in report.entries.values())


# === Beside a run, and from the database ===


def test_a_run_writes_a_page_of_itself_when_it_ends(made: Made) -> None:
    """`--report-html` has what `bot report` has but latency by stage."""
    text = made.beside.read_text("utf-8")

    assert str(made.report.run_hash) in text
    assert "latency by stage: bot report RECORDING measures it" in text


def test_a_page_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is over and reported; what failed is in its trouble."""
    from bot.pages.reporting import Reporting
    from bot.run.composition import Bot, Options

    reporting = Reporting(Bot(Options()), tmp_path / "none" / "x.html")
    reporting.end()
    reporting.write("x", "REPLAY", "local")

    assert "expected to write the report to" in reporting.trouble
    assert "no such file" in reporting.trouble


def test_a_stored_run_is_the_same_report_as_far_as_it_is_stored(made: Made) -> None:
    """Trades, fills, verdicts and hash are those of the replay; what is missing is named."""
    found = msgspec.json.decode(made.stored_json.read_bytes(), type=Report)
    replayed = made.report

    assert found.run_hash == replayed.run_hash
    assert [x.net for x in found.trades] == [x.net for x in replayed.trades]
    assert [x.id for x in found.fills] == [x.id for x in replayed.fills]
    assert found.reasons == replayed.reasons
    assert found.curve.equity[-1] == pytest.approx(replayed.curve.equity[-1])
    assert any("candles" in words for words in found.missing)


def test_a_stored_run_can_be_walked_back(made: Made) -> None:
    """From a fill to its order, verdict and decision, with the scores that it was made of."""
    entries = msgspec.json.decode(made.stored_json.read_bytes(), type=Report).entries
    way = [entries["F1"]]
    while way[-1].parent:
        way.append(entries[way[-1].parent])

    assert [entry.kind for entry in way] == ["fill", "order", "approved", "decision"]
    assert any("score" in line for line in way[-1].details)


def test_a_run_that_is_not_there_is_refused(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named which there are."""
    assert main(["report", "--run", "9", "--database", str(made.database), "--json"]) == 2

    assert "expected a run from 1 to 1, got 9" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_a_large_run_the_newest_rows_are_read_and_the_rest_is_named(
    made: Made, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each table as many as are shown, of the curve as many points, on every database."""
    url = str(made.database) if kind == "sqlite" else request.getfixturevalue("postgresql")()
    if kind == "postgresql":
        beside = ["--journal", "--database", url, "--quiet", "--plain", "--config", "none"]
        assert main(["replay", "account", *beside]) == 0
    monkeypatch.setattr(stored, "ROWS", 2)
    monkeypatch.setattr(stored, "POINTS", 10)
    with reading(url) as connection:
        report = stored.report_of_stored(connection, require_run(connection, 1))

    assert len(report.fills) == len(report.decisions) == 2
    assert "3 of 5 fills, the oldest" in report.left_out
    assert 2 < len(report.curve.at) <= 11
    assert min(report.curve.low) <= report.curve.equity[-1] <= max(report.curve.high)


# === Hostile text ===


def _report(text: str) -> Report:
    """Return a report in which every text is one."""
    entry = Entry(id=text, kind=text, at=text, seq=1, ticker=text, words=text, parent=text,
                  details=(text,), frames=(1,))  # fmt: skip
    return Report(
        source=text, mode=text, network=text, account=text, made_by=text, began=text, ended=text,
        complete=True, profile=text, strategy=text, guarded=True, run_hash=text,
        versions={"bot": text}, commit=text, frames=1, tickers=(text,), wrong=(text,),
        missing=(text,), left_out=(text,), summary=(Named(name=text, words=text),),
        performance=(Named(name=text, words=text),),
        settings=(Setting(path=text, value=text, origin=text),), curve=EquityPart(),
        trades=(Trade(ticker=text, side=text, status=text, size=text, entry=text, exit=text,
                      realized="1", unrealized="1", funding="1", fees="1", net=None, opened=text,
                      closed=None, fills=(text,)),),
        fills=(Fill(id=text, at=text, at_ns=1, ticker=text, side=text, size="1", price="1",
                    usdc="1", fee="1", liquidity=text, type=text, order=text),),
        by_market=(MarketSum(ticker=text, trades=1, won=1, net="1", funding="1", fees="1"),),
        reasons=(Reason(kind=text, reason=text, count=1, newest=text),), decisions=(text,),
        verdicts=(text,), guard=(text,), acts=(text,), gate=(text,), entries={text: entry},
        wire={1: Wire(seq=1, head=text, text=text, letters=9)},
        costs=(Cost(kind=text, paid="1"),),
        quality=(Quality(ticker=text, why=text, known=None, complete=None, lag_p99_ms=None,
                         troubles={text: 1}),),
        errors=(Trouble(kind=text, endpoint=text, count=1, sample=text),),
    )  # fmt: skip


HOSTILE = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "</script><img src=x onerror=alert(1)>",
        "\"><svg onload='x'>",
        "<!--",
        "]]>",
        "&lt;b&gt;",
        "\u2028\x1b[2J",
        "'--><style>*{}</style>",
    ]
)


@settings(max_examples=15)
@given(text=st.one_of(HOSTILE, st.text(alphabet="<>&\"'/=-! abc\u2028", min_size=1, max_size=20)))
def test_no_text_becomes_a_tag_or_an_attribute(text: str) -> None:
    """Whatever a venue, a strategy or a person wrote, the page has the tags that it always has."""
    with mock.patch("bot.pages.page.plotly_js", return_value="/**/"):
        plain, hostile = (Tags(report_page(_report(one))) for one in ("x", text))

    assert hostile.tags == plain.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    assert text in {*json.loads(hostile.islands["entries"])}
