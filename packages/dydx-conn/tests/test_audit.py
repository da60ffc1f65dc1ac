"""What is written about keys and trades: secrets taken out, lines that never fail a trade."""

import base64
import json
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dydx_conn import (
    NETWORKS,
    AuditLog,
    CancelRequest,
    ConnError,
    Frame,
    Header,
    Keys,
    is_secret,
    printable,
    redact,
)
from hypothesis import given
from hypothesis import strategies as st
from leaks import plant
from pydantic import SecretStr

# Vectors of BIP-39, known to everyone and holding nothing.
WORDS = [*["legal", "winner", "thank", "year", "wave", "sausage"] * 2]
MNEMONIC = plant(" ".join([*WORDS[:11], "yellow"]))
LONG = plant(" ".join(["letter", "advice", "cage", "absurd", "amount", "doctor"] * 4))
HEX = "9f" * 32
ADDRESS = "dydx19rl4cm2hmr8afy4kldpxz3fka4jguq0adp24um"
SIGNATURE = base64.b64encode(bytes(range(64))).decode()

# === Redaction ===


@pytest.mark.parametrize(
    "text",
    [
        MNEMONIC,
        LONG,
        MNEMONIC.upper(),
        MNEMONIC.title(),
        MNEMONIC.replace(" ", "\n"),
        MNEMONIC.replace(" ", ", "),
        MNEMONIC.replace(" ", '", "'),
        MNEMONIC.replace(" ", "-"),
        json.dumps(MNEMONIC.replace(" ", "\n")),
        json.dumps(MNEMONIC.split()),
        repr(MNEMONIC.split()),
        " ".join(f"{n}. {word}" for n, word in enumerate(MNEMONIC.split(), 1)),
        f"the key is {MNEMONIC}, keep it",
        f"DYDX_MNEMONIC={MNEMONIC} bot trade",
        f"environ({{'DYDX_MNEMONIC': '{MNEMONIC}'}})",
        f'{{"mnemonic":"{MNEMONIC}"}}',
        f"zzz {MNEMONIC} and later {LONG}",
    ],
)
def test_a_mnemonic_goes_however_it_is_written(text: str) -> None:
    """Of twelve words or twenty-four, in a row, in a list, in JSON, numbered, over lines."""
    clean = redact(text).lower()

    assert "[redacted]" in clean
    assert not {word for word in ("legal", "sausage", "letter", "doctor") if word in clean}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "expected one of DYDX_MNEMONIC and DYDX_PRIVATE_KEY to be set, neither is",
        "a short row of list words: legal winner thank year wave",
        " ".join(WORDS[:11]),
        f"{' '.join(WORDS[:6])} (and then something else) {' '.join(WORDS[:6])}",
        f"/v4/addresses/{ADDRESS}/parentSubaccountNumber/0?limit=1000&createdBeforeOrAtHeight=41000000",
        '{"id":"5fa7ea02-5c4a-5d7c-9f0a-5b9b7c6f5b55","price":"63132.81"}',
        f'{{"txhash":"{HEX.upper()}","code":0}}',
        f"transactionHash='{HEX}'",
        f"broadcast {ADDRESS}/0 client_id=7 at block 41000003",
        "reading b'short' and b'hello there'",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """An empty audit log is none."""
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        HEX.upper(),
        f"0x{HEX}",
        f"key={HEX}",
        f'{{"key":"{HEX}"}}',
        SIGNATURE,
        f"signed {SIGNATURE}.",
        base64.b64encode(os.urandom(300)).decode(),
        base64.urlsafe_b64encode(os.urandom(300)).decode(),
        repr(bytes(range(128, 192))),
        f"TxRaw(signatures: {bytes(range(128, 192))!r})",
        '"tx_bytes": "CgEB"',
        "'signature': 'abc'",
        '{\\"privateKey\\": \\"abc\\"}',
        "DYDX_PASSPHRASE=hunter2",
        "passphrase='hunter two'",
        bytes(range(64)).hex(),
    ],
)
def test_keys_signatures_and_transactions_go(text: str) -> None:
    """As digits, as base64, as bytes, or by the name they are given."""
    clean = redact(text)

    assert "[redacted]" in clean
    for leak in (HEX, HEX.upper(), SIGNATURE, "hunter2", "hunter two", "abc", "CgEB", "\\x80\\x81"):
        assert leak not in clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            "expected wss://me:hunter2@host:1/v4?a=b, got",
            "expected wss://me:***@host:1/v4?a=b, got",
        ),
        ("postgresql://:hunter2@db", "postgresql://:***@db"),
        ("https://host:443/v4/@me", "https://host:443/v4/@me"),
        ("https://me@host:443", "https://me@host:443"),
        ("Authorization: Bearer a.b-c_d~e/f+g0123456=", "Authorization: Bearer [redacted]"),
        ("a bearer of bad news", "a bearer of bad news"),
    ],
)
def test_passwords_of_addresses_and_tokens_of_headers_go(text: str, clean: str) -> None:
    """What else stands there stays: it says where something was wrong."""
    assert redact(text) == clean


@pytest.mark.parametrize("place", range(12))
def test_one_mistyped_word_shows_none_of_the_others(place: int) -> None:
    """Eleven of twelve are as good as all of them."""
    words = MNEMONIC.split()
    typed = " ".join([*words[:place], "wimner", *words[place + 1 :]])

    clean = redact(f"got '{typed}'")

    assert not {"legal", "winner", "thank", "sausage"} & set(clean.replace("'", " ").split())
    assert is_secret(typed)


@pytest.mark.parametrize("text", [MNEMONIC, LONG, HEX, f" 0x{HEX}\n", f"--keys {MNEMONIC}"])
def test_a_secret_is_known_as_one(text: str) -> None:
    """A mnemonic wherever it is, a private key where it is all there is."""
    assert is_secret(text)


@pytest.mark.parametrize("text", ["", "BTC-USD", ADDRESS, f"/data/{HEX}/run.jsonl.zst", HEX[1:]])
def test_what_may_be_typed_is_no_secret(text: str) -> None:
    """A path may have a hash in it."""
    assert not is_secret(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("BTC-USD\x1b[2J", "BTC-USD?[2J"),
        ("\x9b31mred\x07\x08\x7f\x00", "?31mred????"),
        ("one\nline\r\u2028\u2029\x85", "one?line????"),
        ("gnp.\u202eexe \u2066\u200f\u061c\ufeff\xad", "gnp.?exe ?????"),
        ("\ud800\U000e0041", "??"),
        ("10 µs → 5\u202f%\tœ 日本 🙂", "10 µs → 5\u202f%\tœ 日本 🙂"),
    ],
)
def test_no_terminal_acts_upon_a_text(text: str, shown: str) -> None:
    """C0, C1, DEL, what turns or hides text; what is merely not ASCII stays."""
    assert printable(text) == shown


@given(
    st.text(max_size=40).filter(lambda text: not text[-1:].isalnum() and text[-1:] != "\\"),
    st.sampled_from([MNEMONIC, LONG, HEX]),
    st.text(max_size=40).filter(lambda text: not text[:1].isalnum()),
)
def test_a_secret_goes_whatever_stands_around_it(before: str, secret: str, after: str) -> None:
    """For any text before and after it, the secret as a whole is gone."""
    if before.rstrip("\"'=: ").lower().endswith("hash"):
        return

    assert secret not in redact(before + secret + after)


@given(st.text())
def test_redaction_never_fails_and_is_done_once(text: str) -> None:
    """Any text at all; what is redacted stays as it is."""
    assert redact(redact(text)) == redact(text)


# === Audit ===


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a log back."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a log that is not there yet."""
    return tmp_path / "audit.jsonl"


def test_a_line_is_an_event_with_its_time(path: Path) -> None:
    """The caller's time, or the clock's; the fields as they are."""
    with AuditLog(path, clock_ns=lambda: 7) as audit:
        audit.write("started", network="testnet")
        audit.write("place", at=9, client_id=3, answer={"code": 0, "log": None})

    assert lines(path) == [
        {"ns": 7, "event": "started", "network": "testnet"},
        {"ns": 9, "event": "place", "client_id": 3, "answer": {"code": 0, "log": None}},
    ]
    assert (audit.lines, audit.failures) == (2, 0)


def test_each_line_is_there_at_once(path: Path) -> None:
    """A process that is killed has written down what it did."""
    with AuditLog(path) as audit:
        audit.write("one")
        assert len(lines(path)) == 1
        audit.write("two")
        assert len(lines(path)) == 2


def test_only_its_owner_reads_it_and_nothing_is_lost(path: Path) -> None:
    """A log that is there goes on, and is closed to others."""
    path.write_text('{"ns":1,"event":"before"}\n')
    path.chmod(0o644)

    with AuditLog(path) as audit:
        audit.write("after")

    assert [line["event"] for line in lines(path)] == ["before", "after"]
    assert path.stat().st_mode & 0o777 == 0o600


@dataclass
class Settings:
    """A configuration as an application may have it."""

    mnemonic: str


class Signed(msgspec.Struct):
    """Something that carries what it should not."""

    client_id: int
    tx_bytes: bytes
    note: str


class Broken:
    """Something that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError(MNEMONIC)


def test_whoever_shows_the_log_sees_text_alone(tmp_path: Path) -> None:
    """What a terminal would act upon is escaped, and reads back as it was."""
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as audit:
        audit.write("node broadcast", log="a\x1b[2J\x9b31m\x7f\u202e\U000e0041\nµ")

    text = path.read_text()
    assert text.strip().isprintable()
    assert "µ" in text
    assert lines(path)[0]["log"] == "a\x1b[2J\x9b31m\x7f\u202e\U000e0041\nµ"


def test_secrets_do_not_get_in(path: Path) -> None:
    """By name, by shape, nested, in errors, as bytes, as keys of a mapping."""
    keys = Keys(SecretStr(HEX))
    with AuditLog(path) as audit:
        audit.write(
            "everything",
            mnemonic=MNEMONIC,
            keys=keys,
            passphrase=SecretStr("hunter2"),
            secret_str=SecretStr("hunter2"),
            config=Settings(MNEMONIC),
            error=ConnError(f"cannot sign with {HEX}"),
            deep=[{"x": ({"DYDX_PRIVATE_KEY": "hunter2"},)}, {MNEMONIC: 1}, {"b", MNEMONIC}],
            tx=b"\x00" * 90,
            signed=Signed(3, b"\x01" * 64, f"was {LONG}"),
            request=CancelRequest(ticker="BTC-USD", clob_pair_id=0, client_id=5),
            result={"hash": "AB" * 32, "txhash": f"no hash but {HEX}", "key": "AB" * 32},
        )
        audit.write(f"event {MNEMONIC}")

    text = path.read_text()
    for leak in ("sausage", "doctor", HEX, "hunter2", "\\x00", "\\u0000"):
        assert leak not in text
    assert audit.failures == 0
    [everything, event] = lines(path)
    assert everything["keys"] == repr(keys)
    assert everything["tx"] == "[90 bytes]"
    assert everything["signed"]["client_id"] == 3
    assert everything["signed"]["tx_bytes"] == "[redacted]"
    assert everything["request"]["client_id"] == 5
    assert everything["result"] == {
        "hash": "AB" * 32,
        "txhash": "no hash but [redacted]",
        "key": "[redacted]",
    }
    assert event["event"] == "event [redacted]"


def test_a_long_text_is_cut(path: Path) -> None:
    """The full text of an answer is a recording's business."""
    with AuditLog(path) as audit:
        audit.write("answer", text="é, " * 2_000)

    assert lines(path)[0]["text"].endswith("… (6000)")


def test_a_mapping_without_end_ends(path: Path) -> None:
    """What holds itself is written to a depth."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with AuditLog(path) as audit:
        audit.write("loop", loop=loop)

    assert audit.failures == 0


def test_a_line_that_cannot_be_written_is_counted(path: Path) -> None:
    """A trade goes on; the failure is logged, without a secret."""
    audit = AuditLog(path)
    audit.write("broken", what=Broken())
    assert audit.failures == 1
    assert audit.last_failure == "RuntimeError: [redacted]"
    audit.close()
    audit.close()
    audit.write("late")

    assert audit.failures == 2
    assert audit.last_failure.startswith("OSError")
    assert path.read_text() == ""


def test_a_log_that_cannot_be_opened_is_reported_at_once(tmp_path: Path) -> None:
    """Before anything is traded."""
    with pytest.raises(ConnError, match="expected to write an audit log"):
        AuditLog(tmp_path / "no" / "folder" / "x")


def test_many_threads_write_whole_lines(path: Path) -> None:
    """The trader's thread, the bot's and a socket's share one log."""
    with AuditLog(path) as audit:

        def work(name: int) -> None:
            for n in range(50):
                audit.write("work", thread=name, n=n)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(lines(path)) == audit.lines == 200


def test_an_answer_is_written_down_and_a_refusal_quoted(path: Path) -> None:
    """What was requested, what came, how big; and of the headers what is left of the limit."""
    with AuditLog(path) as audit:
        audit.answered("GET", "/v4/time", 200, "x" * 70, {"RateLimit-Remaining": "9", "Via": "x"})
        audit.answered("GET", "/v4/orders", 400, '{"errors":[{"msg":"no"}]}', {})

    fine, refused = lines(path)
    assert (fine["status"], fine["size"], fine["content"]) == (
        200,
        70,
        {"RateLimit-Remaining": "9"},
    )
    assert refused["content"] == {"body": '{"errors":[{"msg":"no"}]}'}


def test_a_socket_is_written_down_and_not_its_traffic(path: Path) -> None:
    """Opened, requested, lost, closed; the node's own frames are the trader's to write."""
    with AuditLog(path) as audit:
        for n, kind in enumerate(["open", "sent", "ws", "tick", "gap", "close"]):
            text, code = ("wss://v" if kind == "open" else ""), ("1012" if kind == "close" else "")
            audit.passed(Frame(n, 5, 0, "c1", kind, text, code))
        audit.passed(Frame(8, 5, 0, "key", "act", "a headline", "halt"))
        audit.passed(Frame(9, 5, 0, "node", "sent", "order"))
        audit.passed(Frame(9, 5, 0, "node", "http", "order", "0", "broadcast"))
        audit.passed(Frame(9, 5, 0, "rest", "http", "12345", "200", "/v4/time"))
        audit.passed(Frame(9, 5, 0, "rest", "http", "", "?", "/v4/time"))

    assert [line["event"] for line in lines(path)] == [
        "socket open",
        "socket sent",
        "socket gap",
        "socket close",
        "act",
        "rest",
        "rest",
    ]
    assert lines(path)[0] == {
        "ns": 5,
        "event": "socket open",
        "link": "c1",
        "seq": 0,
        "content": {"text": "wss://v"},
    }
    assert lines(path)[3]["content"] == {"code": 1012}
    assert lines(path)[4] == {
        **{"ns": 5, "event": "act", "seq": 8},
        **{"who": "key", "what": "halt", "why": "a headline"},
    }
    assert [line["status"] for line in lines(path)[5:]] == [200, 0]


def test_a_recording_names_its_network_without_a_password() -> None:
    """Where the address of an indexer has one, it is its owner's alone."""
    network = replace(
        NETWORKS["testnet"], rest="https://me:hunter2@host/", ws="wss://me:hunter2@host/v4/ws"
    )

    header = Header.of(network)

    assert (header.rest, header.ws) == ("https://me:***@host/", "wss://me:***@host/v4/ws")
    assert "hunter2" not in repr(header)
