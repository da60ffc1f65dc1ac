"""The doctor: each check with its outcome, and what would stop a run."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dydx_conn
import pytest
from bot.__main__ import main
from bot.config.validation import Check
from bot.database import spill
from bot.database.tables import TABLES, engine_of, upgrade
from bot.doctor.command import HINTS
from bot.doctor.machine import Steps, machine
from bot.run.acts import private, state_directory
from dydx_conn import ChainTip, Frame, Network, NetworkError, replay
from reactivex import Observable


def outcomes(checks: Any) -> dict[str, str]:
    """Map each check's name to its outcome."""
    return {check.name: check.outcome for check in checks}


def test_the_machine_is_looked_at() -> None:
    """Python, what it may open, who may read what, disk, database, clock; none fails here."""
    assert set(outcomes(machine())) == {
        "python", "bot", "terminal", "files", "permissions", "disk", "database", "unwritten",
        "ntp", "clock",
    }  # fmt: skip
    assert "failed" not in outcomes(machine()).values()


@pytest.mark.parametrize(
    ("debug", "options", "prefix", "words"),
    [
        (1, "--with-pydebug", "/opt/python", "a debug build"),
        (0, "'--enable-shared'", "/opt/python", "built without --enable-optimizations"),
        (0, "'--enable-shared' '--enable-optimizations'", "/opt/python", ""),
        (0, "'--enable-shared'", "/usr", ""),
        (0, None, "C:\\Python", ""),
    ],
    ids=["debug", "plain", "optimised", "of a distribution", "unknown"],
)
def test_a_slow_python_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, debug: int, options: str | None, prefix: str, words: str
) -> None:
    """Only one of which it is known; the way to a faster one stands beside it."""
    known = {"Py_DEBUG": debug, "CONFIG_ARGS": options}
    monkeypatch.setattr("bot.doctor.machine.sysconfig.get_config_var", known.get)
    monkeypatch.setattr("bot.doctor.machine.sys.base_prefix", prefix)

    check = check_of("python")

    assert (check.outcome, bool(check.hint)) == (("warning", True) if words else ("ok", False))
    assert words in check.seen


def test_a_small_terminal_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard wants 80 columns and 24 rows."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("bot.doctor.machine.shutil.get_terminal_size", lambda: (40, 10))

    assert outcomes(machine())["terminal"] == "warning"


def check_of(name: str, url: str = "") -> Check:
    """Return the first check of a name."""
    return next(check for check in machine(url) if check.name == name)


@pytest.mark.parametrize(("mb", "outcome"), [(99, "failed"), (1_023, "warning"), (1_024, "ok")])
def test_a_disk_has_a_floor(monkeypatch: pytest.MonkeyPatch, mb: int, outcome: str) -> None:
    """Of what stores anything: state, data, configuration, recordings."""
    usage = SimpleNamespace(free=mb * 10**6)
    monkeypatch.setattr("bot.doctor.machine.shutil.disk_usage", lambda _: usage)

    found = check_of("disk")

    assert found.outcome == outcome
    assert found.seen.startswith(f"{mb:,} MB free for state")
    assert bool(found.hint) is (outcome != "ok")


@pytest.mark.parametrize(
    ("mode", "outcome", "words"),
    [
        (0o700, "ok", "what is stored is ours alone"),
        (0o755, "warning", "others may look into the state directory"),
        (0o777, "failed", "to be ours alone, got mode 777"),
    ],
)
def test_what_outlives_a_run_is_ours_alone(mode: int, outcome: str, words: str) -> None:
    """Who else can write there could halt a bot, or let one enter; the command mends it."""
    private(state_directory())
    state_directory().chmod(mode)

    found = check_of("permissions")

    assert found.outcome == outcome
    assert words in found.seen
    assert found.hint == ("" if outcome == "ok" else f"chmod 700 {state_directory()}")


def offline(capsys: pytest.CaptureFixture[str], *typed: str) -> tuple[int, dict[str, Any]]:
    """Look at the machine alone; return the exit code, and the last check of each name."""
    code = main(["doctor", "--offline", "--json", *typed])
    checks = json.loads(capsys.readouterr().out)["machine"]
    return code, {check["name"]: check for check in checks}


def test_a_file_with_a_secret_that_others_may_read_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key file, and the file of settings where something is sealed, with what mends it."""
    monkeypatch.delenv("DYDX_CONFIG")
    monkeypatch.chdir(tmp_path)
    key, config = tmp_path / "my key", tmp_path / "bot.yaml"
    key.write_text("")
    config.write_text(f"account:\n  keys: {key}\n")
    key.chmod(0o600)
    config.chmod(0o640)

    assert offline(capsys)[1]["permissions"]["outcome"] == "ok"
    config.write_text(f"{config.read_text()}sealed:\n  database.url: '\"dydx-sealed\"'\n")
    assert offline(capsys)[1]["permissions"]["hint"] == "chmod 600 bot.yaml"
    key.chmod(0o604)
    config.chmod(0o600)
    code, found = offline(capsys)
    assert (code, found["permissions"]["outcome"]) == (0, "warning")
    assert found["permissions"]["hint"] == f"chmod 600 '{key}'"
    key.chmod(0o600)
    assert offline(capsys, "--keys", "env")[1]["permissions"]["outcome"] == "ok"


def test_a_limit_of_files_that_is_too_low_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to type."""
    monkeypatch.setattr("bot.doctor.machine.too_few_files", lambda: "expected 128, got 64")

    found = check_of("files")

    assert (found.outcome, found.seen, found.hint[:6]) == (
        "failed",
        "expected 128, got 64",
        "ulimit",
    )


@pytest.mark.parametrize(("moved_ns", "outcome"), [(0, "ok"), (51 * 10**6, "warning")])
def test_a_clock_that_is_set_while_it_is_looked_at_is_a_warning(
    moved_ns: int, outcome: str
) -> None:
    """Against the one that only goes on."""
    times = iter([(10**18, 5), (10**18 + 10**9 + moved_ns, 10**9 + 5)])

    assert Steps(lambda: next(times)).check().outcome == outcome


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        ((None, 0), "ok", "does not tell"),
        ((0x40, 0), "warning", "nothing sets the clock"),
        ((0x2000, 4_000), "ok", "wrong by 4 ms at most"),
    ],
)
def test_whether_the_system_sets_its_clock(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[int | None, int], outcome: str, words: str
) -> None:
    """As the kernel has it; a system that does not tell is none to warn of."""
    monkeypatch.setattr("bot.doctor.machine._adjusted", lambda: answer)

    found = check_of("ntp")

    assert (found.outcome, words in found.seen) == (outcome, True)


def test_a_system_of_another_kind_tells_nothing_of_its_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The shape of the answer is that of 64-bit Linux."""
    monkeypatch.setattr("bot.doctor.machine.sys.platform", "darwin")

    assert "does not tell" in check_of("ntp").seen


def test_a_database_is_none_yet_then_of_this_version_with_its_last_run(tmp_path: Path) -> None:
    """It is looked at, and not made."""
    url = str(tmp_path / "bot.db")
    assert check_of("database", url).seen == f"none yet: the first run makes {url}"
    assert not Path(url).exists()

    engine = engine_of(url)
    assert "version none: the next run brings it to" in check_of("database", url).seen
    upgrade(engine)
    run = {"mode": "TRADE", "network": "local", "chain_id": "c", "account": "a/0", "process": "1"}
    with engine.begin() as connection:
        connection.execute(TABLES["runs"].insert().values(**run, began=0, state="running"))
    engine.dispose()

    assert check_of("database", url).seen.startswith(f"{url} can be written, ")
    words = "run 1, trade on local, of 1970-01-01 00:00 was killed, or still runs"
    assert check_of("last run", url).seen == words


def test_a_database_that_has_grown_large_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what makes it smaller."""
    url = str(tmp_path / "bot.db")
    engine = engine_of(url)
    upgrade(engine)
    engine.dispose()
    monkeypatch.setattr("bot.doctor.machine._LARGE_MB", 0.0)
    found = check_of("database", url)

    assert (found.outcome, "bot backup FILE --trim 30d" in found.hint) == ("warning", True)


def test_a_database_that_is_none_fails(tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / "bot.db").write_text("some text " * 999)

    found = check_of("database", str(tmp_path / "bot.db"))

    assert found.outcome == "failed"
    assert "got a file that is no database" in found.seen
    assert found.hint.startswith("bot restore")


def test_a_configuration_is_named_and_its_first_fault_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With how many more there are; all else that needs no settings is looked at as ever."""
    monkeypatch.delenv("DYDX_CONFIG")
    monkeypatch.chdir(tmp_path)
    assert offline(capsys)[1]["configuration"]["seen"] == "no bot.yaml: defaults"

    (tmp_path / "bot.yaml").write_text("database:\n  url: none\n")
    code, found = offline(capsys)
    assert (code, found["configuration"]["seen"]) == (0, f"{tmp_path / 'bot.yaml'} is valid")
    assert found["database"]["seen"].startswith("none is wanted")

    (tmp_path / "bot.yaml").write_text("policy:\n  max_levrage: 3\nprofil: steady\n")
    assert main(["doctor", "--json"]) == 1
    [failed, *_] = json.loads(capsys.readouterr().out)["machine"]
    assert (failed["outcome"], failed["hint"][:16]) == ("failed", "bot config check")
    assert failed["seen"].startswith("bot.yaml:2")
    assert failed["seen"].endswith("(and 1 more)")


def test_rows_that_no_database_took_are_counted() -> None:
    """Those that wait, and those that none will ever take."""
    private(spill.directory())
    (spill.directory() / "a.jsonl").write_text("{}\n[]\n[]\n")
    (spill.directory() / "b.refused").write_text("{}\n[]\n")

    found = check_of("unwritten")

    assert found.outcome == "warning"
    assert found.seen == f"2 rows wait in {spill.directory()}, 1 were refused"


def test_the_machine_alone_is_looked_at_without_a_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words and as JSON; what fails is a 1."""
    monkeypatch.setattr("bot.doctor.machine.slowness", str)
    assert main(["doctor", "--offline"]) == 0
    assert re.search(r"this machine, 1[34] of 14 fine", capsys.readouterr().out)

    monkeypatch.setattr("bot.doctor.machine.too_few_files", lambda: "expected 128, got 64")
    assert main(["doctor", "--offline", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [*answer] == ["machine"]
    files = next(check for check in answer["machine"] if check["name"] == "files")
    assert files["hint"] == "ulimit -n 1024"


@pytest.fixture(params=[1, 10**18], ids=["just booted", "up for decades"])
def recorded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a recording stand in for the indexer, and its first block for the node.

    A recording's monotonic stamps are another machine's: what this one's clock shows is nothing
    to them, just booted or not.
    """
    monkeypatch.setattr("time.monotonic_ns", lambda: request.param)
    monkeypatch.setattr("bot.doctor.machine.slowness", str)
    block = next(f for f in dydx_conn.collect(replay("quickstart")) if f.channel == HEIGHT)
    height, time_ns = _block(block)
    tip = ChainTip("localdydxprotocol", height, time_ns, time_ns)

    def live(_: Network, __: list[str], **given: Any) -> Observable[Frame]:
        return replay("quickstart", pace=given["pace"])

    monkeypatch.setattr("bot.config.validation.live", live)
    monkeypatch.setattr("bot.config.validation.chain_tip", lambda _: tip)


HEIGHT = "v4_block_height"


def _block(frame: Frame) -> tuple[int, int]:
    from datetime import datetime

    (block,) = dydx_conn.contents(frame)
    time_ns = int(datetime.fromisoformat(block.time).timestamp() * 1e9)
    return int(block.height or block.block_height), time_ns


@pytest.mark.usefixtures("recorded")
def test_what_a_venue_really_sent_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """The beginning of a recording holds all that is looked for; exit code 0."""
    assert main(["doctor", "--network", "local"]) == 0

    assert re.search("local: ok, 2[12] of 22 fine", capsys.readouterr().out)  # ntp may warn


@pytest.mark.usefixtures("recorded")
def test_json_is_what_a_health_endpoint_tells(capsys: pytest.CaptureFixture[str]) -> None:
    """The network's kind, both chain ids, the status and every check; nothing else is printed."""
    assert main(["doctor", "--network", "local", "--json"]) == 0

    result = json.loads(capsys.readouterr().out)
    assert result["network_type"] == "local"
    assert result["chain_id_expected"] == result["chain_id_reported"] == "localdydxprotocol"
    assert (result["status"], result["http_status"]) == ("ok", 200)
    assert "node" in [check["name"] for check in result["checks"]]
    assert "python" in [check["name"] for check in result["machine"]]


@pytest.mark.usefixtures("recorded")
def test_a_node_of_another_chain_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and what a health endpoint calls a bad request."""
    other = ChainTip("dydx-mainnet-1", 9, 0, 0)
    monkeypatch.setattr("bot.config.validation.chain_tip", lambda _: other)

    assert main(["doctor", "--network", "local"]) == 1
    assert "expected localdydxprotocol, got dydx-mainnet-1 from the node" in capsys.readouterr().out
    assert main(["doctor", "--network", "local", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["http_status"] == 400


def test_a_network_that_is_not_there_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the checks that failed are named."""

    def silent(_: Network) -> ChainTip:
        raise NetworkError("nobody there")

    monkeypatch.setattr("bot.config.validation.chain_tip", silent)
    nowhere = ["--rest", "http://127.0.0.1:9", "--ws", "ws://127.0.0.1:9/v4/ws"]

    assert main(["doctor", "--network", "local", *nowhere]) == 1
    assert "local: unreachable" in (printed := capsys.readouterr().out)
    assert f"\n{'':<22} {HINTS['node']}\n" in printed
    assert "failed: node, rest, socket" in printed


def test_a_check_is_a_value() -> None:
    """Two of the same are equal: results can be compared over time."""
    assert Check("node", "ok", "block 9") == Check("node", "ok", "block 9")
