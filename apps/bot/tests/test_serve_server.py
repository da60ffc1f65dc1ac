"""The server of a run: where it listens, what it refuses, and that it ends with the run."""

import argparse
import contextlib
import dataclasses
import datetime
import ipaddress
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from answering import free_port
from bot.__main__ import main
from bot.config.api import ApiSettings, host_and_port
from bot.live.reach import stay
from bot.serve import server as module
from bot.serve.server import ApiError, is_loopback, listening, serving
from bot.serve.tokens import read
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dydx_conn import ConnError
from fastapi import FastAPI
from reached import Reached, reached_run


def at(address: str, **chosen: str) -> ApiSettings:
    """Return the settings of an address."""
    return ApiSettings.model_validate({"address": address, **chosen})


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return a certificate of the loopback and its key, as settings."""
    place, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bot")])
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (place / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (place / "key.pem").write_bytes(key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))  # fmt: skip
    return {"certificate": str(place / "cert.pem"), "key": str(place / "key.pem")}


# === Addresses ===


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:8710", ("127.0.0.1", 8710)), ("[::1]:0", ("::1", 0)), ("bot:1", ("bot", 1))],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    """Of IPv6 in brackets."""
    assert host_and_port(text) == expected


@pytest.mark.parametrize("text", ["8710", ":8710", "a:b", "::1:8710", "a:99999", "a b:1", "[::1]"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """With one that would be."""
    with pytest.raises(ValueError, match=r"expected HOST:PORT such as 127\.0\.0\.1:8710"):
        host_and_port(text)


def test_only_this_machine_reaches_the_loopback() -> None:
    """A name may become any other address."""
    hosts = ("127.0.0.1", "::1", "127.9.9.9", "localhost", "0.0.0.0", "10.0.0.1", "bot.local")

    assert [*map(is_loopback, hosts)] == [True, True, True, True, False, False, False]


def test_beyond_the_loopback_it_wants_tls() -> None:
    """Or it does not start."""
    what = r"expected api\.certificate and api\.key beyond loopback, got none for 0\.0\.0\.0"
    with pytest.raises(ApiError, match=what), listening(at("0.0.0.0:0")):
        pass


def test_with_tls_it_listens_everywhere(tls: dict[str, str]) -> None:
    """At a port that is free."""
    with listening(at("0.0.0.0:0", **tls)) as server:
        assert server.getsockname()[1] > 0


def test_a_port_in_use_is_refused() -> None:
    """Before the run begins."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        what = r"got 127\.0\.0\.1:\d+: Address already in use"
        with pytest.raises(ApiError, match=what), listening(at(address)):
            pass


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_that_is_not_ours_is_refused(host: str, tls: dict[str, str]) -> None:
    """In words."""
    what = f"expected an address of this machine that is free, got {re.escape(host)}:0"
    with pytest.raises(ApiError, match=what), listening(at(f"{host}:0", **tls)):
        pass


@pytest.mark.parametrize("name", ["certificate", "key"])
@pytest.mark.parametrize("content", [None, "no PEM"])
def test_a_certificate_that_is_none_is_refused(
    name: str, content: str | None, tls: dict[str, str], tmp_path: Path
) -> None:
    """Missing, or something else."""
    path = tmp_path / "pem"
    if content is not None:
        path.write_text(content)
    settings = at("127.0.0.1:0", **tls | {name: str(path)})
    what = r"expected a (file of PEM|certificate and its key)"
    with pytest.raises(ApiError, match=what), listening(settings):
        pass


def test_a_key_with_a_passphrase_is_refused(tls: dict[str, str], tmp_path: Path) -> None:
    """Nobody is there to type it, and a prompt would hold up the run."""
    path, key = tmp_path / "key.pem", serialization.load_pem_private_key(
        Path(tls["key"]).read_bytes(), None
    )  # fmt: skip
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ))  # fmt: skip
    settings = at("127.0.0.1:0", **tls | {"key": str(path)})
    with pytest.raises(ApiError, match="the key without a passphrase"), listening(settings):
        pass


def test_without_the_extra_it_says_how_to_get_it() -> None:
    """Not a traceback; in a process of its own, which has imported none of it before."""
    program = (
        "import sys; from bot.system import EXTRAS; from bot.__main__ import main; "
        "sys.modules |= dict.fromkeys(sum(EXTRAS.values(), ())); "
        "sys.exit(main(['replay', '--api', '127.0.0.1:0']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert ended.stderr.startswith("bot: expected bot[api] to be installed for --api, got no ")
    assert ended.returncode == 2


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--api", "8710"], "expected HOST:PORT such as 127.0.0.1:8710, got '8710'"),
        (["--api", "0.0.0.0:0"], "beyond loopback, got none for 0.0.0.0"),
        (["--api", "127.0.0.1:0", "--api-key", "/nowhere"], "expected a file of PEM as"),
        (["--stay"], "expected --api HOST:PORT beside --stay, got none"),
    ],
)
def test_what_was_typed_wrong_is_a_two(
    typed: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and no run."""
    with contextlib.suppress(SystemExit):
        assert main(["replay", "quickstart", *typed]) == 2
    assert words in capsys.readouterr().err


# === Serving ===


def served_at(reached: Reached, settings: ApiSettings) -> Reached:
    """Return what is served with other settings than its own, but its tokens."""
    paths = {
        name: getattr(reached.served.settings, name) for name in ("read_token", "trading_token")
    }
    settings = settings.model_copy(update=paths)
    return reached._replace(served=dataclasses.replace(reached.served, settings=settings))


@contextlib.contextmanager
def answering(reached: Reached) -> Iterator[str]:
    """Serve a run on the loopback; yields the URL."""
    with listening(reached.served.settings) as server, serving(reached.served, server) as url:
        yield url


def test_a_run_answers_and_its_thread_ends_with_it(tmp_path: Path) -> None:
    """Threads switch more often meanwhile, and as usual after it."""
    reached, usual = served_at(reached_run(tmp_path), at("127.0.0.1:0")), sys.getswitchinterval()
    headers = {"Authorization": f"Bearer {reached.read_token}"}
    with answering(reached) as url, httpx.Client(headers=headers) as client:
        answer = client.get(f"{url}/status")
        refused = client.get(f"{url}/status", headers={"Authorization": "Bearer x"})
        during = sys.getswitchinterval()

    assert (answer.status_code, answer.json()["source"]) == (200, "quickstart")
    assert refused.status_code == 401
    assert during < usual == sys.getswitchinterval()
    assert "api" not in {thread.name for thread in threading.enumerate()}


def test_with_tls_the_cookie_is_secure(tmp_path: Path, tls: dict[str, str]) -> None:
    """And the address is of https."""
    reached = served_at(reached_run(tmp_path), at("127.0.0.1:0", **tls))
    trust = ssl.create_default_context(cafile=tls["certificate"])
    with answering(reached) as url, httpx.Client(verify=trust) as client:
        answer = client.post(f"{url}/login", data={"token": reached.read_token})

    assert url.startswith("https://127.0.0.1:")
    assert "Secure" in answer.headers["set-cookie"]


def test_a_server_that_fails_is_a_trouble_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on, and whoever watches it learns of it."""
    import uvicorn

    async def fails(*_: object, **__: object) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(uvicorn.Server, "serve", fails)
    reached = served_at(reached_run(tmp_path), at("127.0.0.1:0"))
    with answering(reached):
        pass

    words = "expected to answer over HTTP, got OSError: too many open files"
    assert reached.bot.shown.troubles == {"api": words}


def test_a_bug_of_ours_is_a_500_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are a trouble of the run; who calls gets none of them."""
    reached = reached_run(tmp_path)
    troubles: list[str] = []
    app = module._server_of(reached.served, 8710).config.app
    assert isinstance(app, FastAPI)
    monkeypatch.setattr("bot.serve.money.Pnl", None)
    monkeypatch.setattr(module, "trouble", lambda _, words: troubles.append(words))
    answer = reached._replace(app=app).client().get("/pnl")

    assert (answer.status_code, answer.json()["got"]) == (
        500, "a mistake of the bot's, which is noted",
    )  # fmt: skip
    assert troubles == [
        "expected an answer over HTTP, got TypeError: 'NoneType' object is not callable"
    ]


# === A whole run ===


def looking(port: int, place: Path, then: Callable[[httpx.Client], object]) -> threading.Thread:
    """Begin a thread that looks at a run as soon as it answers."""

    def look() -> None:
        token = place / "dydx-bot" / "api-read.token"
        url, answers = f"http://127.0.0.1:{port}", 0
        while not answers:
            with (
                contextlib.suppress(httpx.HTTPError, OSError, ConnError),
                httpx.Client(base_url=url) as client,
            ):
                client.headers["Authorization"] = f"Bearer {read(token)}"
                answers += client.get("/status").status_code == 200
                then(client)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory in which a run stores its tokens."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.replays
def test_a_run_is_the_same_while_somebody_looks_all_the_time(
    short: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends as ever, with the hash that it always has, and its thread with it."""
    port, answers = free_port(), list[int]()

    def hammer(client: httpx.Client) -> None:
        while True:  # until nobody answers any more
            for path in ("/status", "/orders", "/pnl", "/decisions/D1/why"):
                answers.append(client.get(path).status_code)

    thread = looking(port, place, hammer)
    typed = ["replay", str(short), "--json", "--speed", "60"]
    assert main([*typed, "--api", f"127.0.0.1:{port}"]) == 0
    thread.join(10.0)
    assert main(typed[:3]) == 0
    hashes = re.findall(r'"run_hash": "(\w+)"', capsys.readouterr().out)

    assert len(answers) > 10
    assert {*answers} <= {200, 404}
    assert len(hashes) == 2
    assert len({*hashes}) == 1
    assert "api" not in {each.name for each in threading.enumerate()}


def test_a_run_that_is_ended_ends_its_server(
    short: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its report, though a connection stands open."""
    port = free_port()
    thread = looking(port, place, lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert main(["replay", str(short), "--json", "--speed", "1", "--api", f"127.0.0.1:{port}"]) == 0
    thread.join(10.0)

    assert '"complete": false' in capsys.readouterr().out
    assert "api" not in {each.name for each in threading.enumerate()}


def test_a_recording_stays_where_somebody_chose_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until Ctrl-C; without --api or --stay it ends as ever."""
    attended: list[int] = []

    def attend() -> None:
        attended.append(1)
        if len(attended) == 3:
            raise KeyboardInterrupt

    for chosen in ({"stay": True}, {"stay": False, "listener": 1}, {"stay": True, "listener": 1}):
        stay(argparse.Namespace(**chosen), attend)

    assert len(attended) == 3


def test_an_account_that_is_watched_is_reached(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is looked at, and nothing is done to it."""
    port, found = free_port(), list[tuple[int, int, str]]()

    def look(client: httpx.Client) -> None:
        token = read(place / "dydx-bot" / "api-trading.token")
        client.headers["Authorization"] = f"Bearer {token}"
        for _ in range(10_000):  # until the account is known
            status = client.get("/status").json()
            if status["equity_usdc"] is not None:
                break
        act = client.post("/halt")
        found.append((client.get("/positions").status_code, act.status_code, status["mode"]))
        os.kill(os.getpid(), signal.SIGINT)

    thread = looking(port, place, look)
    whose = "dydx18y6v62cltpkud6kqr26yxa6swnjv8f4z5p6c78"
    typed = ["watch", whose, "--recording", "account", "--quiet", "--speed", "20"]
    assert main([*typed, "--api", f"127.0.0.1:{port}"]) == 0
    thread.join(10.0)

    assert found == [(200, 409, "WATCH")]
    assert "answers at" in capsys.readouterr().err
