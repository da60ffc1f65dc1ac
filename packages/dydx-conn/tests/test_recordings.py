"""Recordings: what was written is read, and what was damaged is reported and costs no more."""

import bisect
import contextlib
import gzip
import itertools
import os
import random
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dydx_conn
import msgspec
import pytest
import zstandard
from dydx_conn import (
    Frame,
    Header,
    Recording,
    RecordingError,
    RecordingWriter,
    find_recording,
    load_recorded_stream,
    recording_folders,
    ws_frame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HEADER = Header(network="local", rest="http://r", ws="ws://w", client="c 1", source="a test", ns=5)
SECOND = 1_000_000_000
MAGIC = re.escape(dydx_conn._ZSTD_MAGIC)


def written(path: Path, frames: list[Frame], *, end: bool = True) -> Path:
    """Write frames as a recording, with its end or as a killed writer leaves it."""
    writer = RecordingWriter(path, HEADER)
    for frame in frames:
        writer.write_frame(frame)
    if end:
        writer.close()
    else:
        writer.flush()
        writer._file.close()
    return path


def ticks(number: int, gap: int = SECOND) -> list[Frame]:
    """Make frames a second apart: one block each."""
    return [
        Frame(seq=i, at=10 + i * gap, mono=i * gap, link="c1", kind="tick", text="")
        for i in range(1, number + 1)
    ]


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a recording as anyone would, with plain zstd and JSON."""
    unpack = zstandard.ZstdDecompressor().stream_reader
    with path.open("rb") as file, unpack(file, read_across_frames=True) as text:
        return [msgspec.json.decode(line) for line in text.read().splitlines()]


def every_kind() -> list[Frame]:
    """One frame of each kind, a tenth of a second apart."""
    common = [
        ("open", "ws://w", ""),
        ("sent", '{"type": "subscribe"}', ""),
        ("http", '{"markets":{}}', "200"),
        ("gap", "the disk was full", ""),
        ("close", "going away", "1001"),
        ("tick", "", ""),
    ]
    frames = [
        Frame(seq=i, at=i * 10, mono=i, link="c1", kind=kind, text=text, type=type_)
        for i, (kind, text, type_) in enumerate(common, 1)
    ]
    message = '{"type":"connected","message_id":0, "x":"\\u00e9\\n "}'
    http = msgspec.structs.replace(frames[2], channel="/v4/perpetualMarkets?limit=1")
    gap = msgspec.structs.replace(frames[3], message_id=3, channel="v4_orderbook", id="A-USD")
    act = Frame(seq=8, at=80, mono=8, link="key", kind="act", text="a headline", type="halt")
    late = Frame(seq=9, at=90, mono=9, link="clock", kind="tick", text='{"age_ns":250000001}')
    state = Frame(seq=10, at=95, mono=9, link="state", kind="state", text="{}", id="a hash")
    message_frame = ws_frame(7, 70, 7, "c2", message)
    return [*frames[:2], http, gap, *frames[4:], message_frame, act, late, state]


# === Whole ===


def test_every_kind_of_frame_comes_back_as_it_was(tmp_path: Path) -> None:
    """Number, stamps, link, words: all of it."""
    path = written(tmp_path / "r.jsonl.zst", every_kind())

    recording = Recording(path)

    assert list(recording) == every_kind()
    assert list(recording) == every_kind()
    assert recording.complete
    assert recording.damage == []
    assert recording.header == HEADER


def test_a_recording_is_plain_lines_in_plain_zstd(tmp_path: Path) -> None:
    """One JSON event a line, numbered over all of them, with the header first and the end last."""
    path = written(tmp_path / "r.jsonl.zst", every_kind())

    read = lines(path)

    assert [line["k"] for line in read] == [
        *("hdr", "open", "ws", "http", "gap", "close", "tick", "ws", "act", "tick", "state", "end")
    ]
    assert [line["i"] for line in read[1:]] == list(range(1, 12))
    assert [line.get("x") for line in read if line["k"] == "tick"] == [None, '{"age_ns":250000001}']
    assert read[0]["v"] == dydx_conn.VERSION
    assert [line.get("d") for line in read if line["k"] == "ws"] == [">", "<"]
    assert read[-1]["lines"] == 11


def test_an_act_is_written_as_who_what_and_why(tmp_path: Path) -> None:
    """It came by no connection, and names none."""
    path = written(tmp_path / "r.jsonl.zst", every_kind())

    [line] = [line for line in lines(path) if line["k"] == "act"]

    stamps = {"k": "act", "i": 8, "ns": 80, "mono": 8}
    assert line == {**stamps, "who": "key", "what": "halt", "why": "a headline"}


def test_an_act_that_a_frame_caused_shifts_no_number(tmp_path: Path) -> None:
    """It bears its cause's number, in the recording and in a copy of it that begins later."""
    act = Frame(seq=2, at=30, mono=2 * SECOND, link="strategy", kind="act", type="halt")
    one, two, three = ticks(3)
    path = written(tmp_path / "r.jsonl.zst", [one, two, act, three])
    copy = written(tmp_path / "copy.jsonl.zst", [*Recording(path)][1:])

    recording = Recording(path)
    assert list(recording) == [one, two, act, three]
    assert recording.complete
    assert lines(path)[-1]["lines"] == 5
    assert [(frame.kind, frame.seq) for frame in Recording(copy)] == [
        *(("tick", 1), ("act", 1), ("tick", 2))
    ]


def test_answers_are_known_by_their_request_not_by_their_host(tmp_path: Path) -> None:
    """The host goes, the query stays, and an answer counts from when it was there."""
    path = tmp_path / "r.jsonl.zst"
    with contextlib.closing(RecordingWriter(path, HEADER)) as writer:
        writer.write("http", ns=7, mono=3, ens=9, u="https://h:1/v4/time?x=1", st=200, b="{}")

    (frame,) = Recording(path)

    assert (frame.kind, frame.channel, frame.type, frame.at) == ("http", "/v4/time?x=1", "200", 9)


def test_events_of_a_kind_to_come_are_passed_over(tmp_path: Path) -> None:
    """What a newer writer adds under the same version does not disturb."""
    path = tmp_path / "r.jsonl.zst"
    with contextlib.closing(RecordingWriter(path, HEADER)) as writer:
        writer.write("weather", ns=7, mono=3, sky="blue")
        writer.write("tick", ns=8, mono=4)

    recording = Recording(path)

    assert [frame.seq for frame in recording] == [2]
    assert recording.complete


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_texts_come_back_word_for_word(tmp_path: Path, texts: list[str]) -> None:
    """Control characters, line ends, NUL, other alphabets."""
    frames = [ws_frame(i, i, i, "c1", text) for i, text in enumerate(texts, 1)]

    path = written(tmp_path / "r.jsonl.zst", frames)

    recording = Recording(path)
    assert [frame.text for frame in recording] == texts
    assert recording.complete


def test_a_large_text_is_a_block_of_its_own(tmp_path: Path) -> None:
    """Blocks close at 64 KiB; a message may be larger."""
    texts = [os.urandom(100_000).hex(), "x" * 1_000_000, "small"]
    frames = [ws_frame(i, i, i, "c1", text) for i, text in enumerate(texts, 1)]

    path = written(tmp_path / "r.jsonl.zst", frames)

    assert [frame.text for frame in Recording(path)] == texts
    assert path.read_bytes().count(dydx_conn._ZSTD_MAGIC) == 4


def test_a_block_is_closed_after_a_second(tmp_path: Path) -> None:
    """So a killed writer loses less than that."""
    path = tmp_path / "r.jsonl.zst"
    writer = RecordingWriter(path, HEADER)

    sizes = []
    for frame in ticks(4, gap=SECOND // 2):
        writer.write_frame(frame)
        sizes.append(path.stat().st_size)

    writer.close()
    writer.close()
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3]


def test_a_killed_writer_leaves_a_readable_recording(tmp_path: Path) -> None:
    """Kill -9, a real one: what was closed is there, and the missing end is reported."""
    path = tmp_path / "killed.jsonl.zst"
    code = (
        "import sys, os, signal, pathlib, dydx_conn as d\n"
        "h = d.Header(network='l', rest='', ws='', client='', source='')\n"
        "w = d.RecordingWriter(pathlib.Path(sys.argv[1]), h)\n"
        "[w.write('tick', ns=i, mono=i * 600_000_000) for i in range(100)]\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    subprocess.run([sys.executable, "-c", code, str(path)], check=False)

    recording = Recording(path)
    assert len(list(recording)) >= 98
    assert not recording.complete
    assert recording.damage == ["the end line is missing or its sum is wrong: it was cut off"]


# === Damaged ===


def test_a_flipped_bit_costs_its_block_and_is_reported(tmp_path: Path) -> None:
    """At every place: no frame is made up, none is changed, and a loss leaves a gap."""
    frames = ticks(12)
    path = written(tmp_path / "r.jsonl.zst", frames)
    whole = path.read_bytes()
    first_block = whole.find(dydx_conn._ZSTD_MAGIC, 4)
    for offset in range(first_block, len(whole), 3):
        path.write_bytes(
            whole[:offset] + bytes([whole[offset] ^ (1 << offset % 8)]) + whole[offset + 1 :]
        )

        recording = Recording(path)
        read = list(recording)
        survivors = [frame for frame in read if frame.kind == "tick"]
        gaps = [frame for frame in read if frame.kind == "gap"]

        assert [frame for frame in frames if frame in survivors] == survivors, offset
        assert len(survivors) >= len(frames) - 2, offset
        assert gaps or len(survivors) == len(frames), offset
        assert len(gaps) == sum("byte" in place for place in recording.damage), offset
        assert recording.damage, offset
        assert not recording.complete, offset


def test_a_truncated_recording_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Cut anywhere after the header: the frames before it are there, and the cut is reported."""
    frames = ticks(12)
    path = written(tmp_path / "r.jsonl.zst", frames)
    whole = path.read_bytes()
    first_block = whole.find(dydx_conn._ZSTD_MAGIC, 4)
    for length in range(first_block, len(whole), 5):
        path.write_bytes(whole[:length])

        recording = Recording(path)
        survivors = [frame for frame in recording if frame.kind == "tick"]

        assert frames[: len(survivors)] == survivors
        assert len(survivors) >= whole.count(dydx_conn._ZSTD_MAGIC, 0, length) - 2
        assert recording.damage, length
        assert not recording.complete, length


def test_of_500_flipped_bits_none_costs_more_than_the_block_it_is_in(tmp_path: Path) -> None:
    """Wherever it is, in a header, a magic number or the text: what is left is as it was."""
    whole = find_recording("account").read_bytes()
    starts = [found.start() for found in re.finditer(MAGIC, whole)][:21]
    path, bits = tmp_path / "r.jsonl.zst", random.Random(7)
    path.write_bytes(whole[: starts[-1]])
    frames = list(Recording(path))
    blocks = [
        zstandard.ZstdDecompressor().decompressobj().decompress(whole[start:end]).count(b"\n")
        for start, end in itertools.pairwise(starts)
    ]
    for _ in range(500):
        at = bits.randrange(starts[-1])
        flipped = bytes([whole[at] ^ 1 << bits.randrange(8)])
        path.write_bytes(whole[:at] + flipped + whole[at + 1 : starts[-1]])

        read = [frame for frame in Recording(path) if frame.kind != "gap"]

        lost, rest = len(frames) - len(read), iter(frames)
        assert lost <= blocks[bisect.bisect_right(starts, at) - 1], at
        assert all(frame in rest for frame in read), at


def test_a_damaged_header_costs_no_event(tmp_path: Path) -> None:
    """What it names is unknown then, and the damage is listed."""
    path = written(tmp_path / "r.jsonl.zst", ticks(5))
    whole = path.read_bytes()
    for offset in range(whole.find(dydx_conn._ZSTD_MAGIC, 4)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])

        recording = Recording(path)

        assert list(recording) == ticks(5), offset
        assert recording.header.network == ""
        assert recording.header.source == "its header is damaged"
        assert len(recording.damage) == 1
        assert not recording.complete


@pytest.mark.skipif(sys.platform != "linux", reason="where a process can look at its own pages")
def test_what_was_read_of_a_recording_takes_no_memory(tmp_path: Path) -> None:
    """Of 3 MB no more than 2 are in memory at a time, however far it was read."""
    noise = [random.Random(at).randbytes(100_000).hex() for at in range(32)]
    frames = [
        Frame(seq=i, at=i * SECOND, mono=i * SECOND, link="c1", kind="tick", text=text)
        for i, text in enumerate(noise, 1)
    ]
    path = written(tmp_path / "r.jsonl.zst", frames)

    resident = [_resident(path) for _ in Recording(path)]

    assert path.stat().st_size > 3_000_000
    assert max(resident) < 2_000_000


def _resident(path: Path) -> int:
    """Return how many bytes of a mapped file this process has in memory."""
    kibibytes, is_of_it = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_of_it = line.endswith(str(path))
        elif is_of_it and line.startswith("Rss:"):
            kibibytes += int(line.split()[1])
    return kibibytes * 1_024


def test_lines_that_are_no_events_leave_a_gap_in_their_place(tmp_path: Path) -> None:
    """One for those in a row; their neighbours in the same block are not lost."""
    path = tmp_path / "r.jsonl.zst"
    writer = RecordingWriter(path, HEADER)
    writer.write_frame(ticks(1)[0])
    for line in (b"hello\n", b"\xff\xfe\n", b"[" * 99_999 + b"\n"):
        writer._block += line
    writer.write_frame(ticks(2)[1])
    writer._block += b'{"k":5}\n'
    writer.write_frame(ticks(3)[2])
    writer.close()

    recording = Recording(path)
    frames = list(recording)

    assert [frame.kind for frame in frames] == ["tick", "gap", "tick", "gap", "tick"]
    assert [frame.seq for frame in frames] == [1, 1, 2, 2, 3]
    assert recording.damage[0].startswith("expected a recorded event, got b'hello")
    assert len(recording.damage) == 2
    assert not recording.complete


def test_a_wrong_sum_is_no_complete_recording(tmp_path: Path) -> None:
    """The end line must belong to what is before it."""
    path = tmp_path / "r.jsonl.zst"
    writer = RecordingWriter(path, HEADER)
    writer._sha256.update(b"something else")
    writer.close()

    recording = Recording(path)

    assert list(recording) == []
    assert not recording.complete
    assert len(recording.damage) == 1


def bomb(line: bytes) -> bytes:
    """Pack 1.5 GB of the same line, without stating the size."""
    stream, piece = zstandard.ZstdCompressor().compressobj(), line * (1_000_000 // len(line))
    return b"".join([*(stream.compress(piece) for _ in range(1_500)), stream.flush()])


@pytest.mark.parametrize(
    "packed",
    [
        lambda: bomb(b" "),
        lambda: bomb(b"\n"),
        lambda: bomb(b'{"k":"tick"}\n'),
        lambda: zstandard.compress(b" " * 300_000_000),
        # Each is small, together they are not.
        lambda: zstandard.compress((b"x" * 999 + b"\n") * 1_000) * 30,
    ],
    ids=["one line", "empty lines", "events", "with its size stated", "many small ones"],
)
def test_a_bomb_is_not_unpacked(tmp_path: Path, packed: Callable[[], bytes]) -> None:
    """It is damage like any other: what is before and after it is there, and memory is not its."""
    path = written(tmp_path / "r.jsonl.zst", ticks(4))
    whole = path.read_bytes()
    _, _, place, _ = (found.start() for found in re.finditer(MAGIC, whole))
    path.write_bytes(whole[:place] + packed() + whole[place:])

    tracemalloc.start()
    recording = Recording(path)
    frames = list(recording)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [frame.kind for frame in frames] == ["tick", "tick", "gap", "tick", "tick"]
    assert any("unpacks to at most" in place for place in recording.damage)
    assert most < 40_000_000


def messages(number: int) -> list[Frame]:
    """Make messages a second apart: one block each."""
    text = '{"type":"connected","connection_id":"1","message_id":0}'
    return [ws_frame(i, 10 + i * SECOND, i * SECOND, "c1", text) for i in range(1, number + 1)]


def left(path: Path, frames: list[Frame]) -> Path:
    """Write frames, a block each, and leave them to be gone on with."""
    writer = RecordingWriter(path, HEADER)
    for frame in frames:
        writer.write_frame(frame)
        writer.flush()
    writer.leave()
    writer.leave()
    return path


def test_a_recording_that_is_gone_on_with_is_the_same_as_one_written_at_once(
    tmp_path: Path,
) -> None:
    """What stood behind the events that count is cut off; the sum at the end is of all lines."""
    frames = messages(6)
    once, path = left(tmp_path / "once", frames), left(tmp_path / "twice", frames[:4])
    RecordingWriter.resume(once, 6).close()

    writer = RecordingWriter.resume(path, 2)
    for frame in frames[2:]:
        writer.write_frame(frame)
        writer.flush()
    writer.close()

    assert path.read_bytes() == once.read_bytes()
    assert [*Recording(path)] == frames
    assert (writer.seq, Recording(path).stated_sum()) == (6, Recording(once).stated_sum())


@pytest.mark.parametrize(("events", "got"), [(1, "another, 2"), (4, "zstd frame")])
def test_a_recording_is_gone_on_with_where_a_block_ends_or_not_at_all(
    tmp_path: Path, events: int, got: str
) -> None:
    """Events that no block ends with, and more of them than there are, are refused."""
    path = tmp_path / "r"
    writer = RecordingWriter(path, HEADER)
    for frame in messages(3):
        writer.write_frame(frame)
    writer.leave()
    before = path.read_bytes()

    with pytest.raises(RecordingError, match=f"whole up to its event {events}, got .*{got}"):
        RecordingWriter.resume(path, events)

    assert path.read_bytes() == before


def test_the_sum_is_stated_by_the_end_alone(tmp_path: Path) -> None:
    """A recording that was cut off states none."""
    whole = written(tmp_path / "whole", messages(3))
    cut = written(tmp_path / "cut", messages(3), end=False)

    assert Recording(whole).stated_sum() == lines(whole)[-1]["sha256"]
    assert Recording(cut).stated_sum() == ""


def test_a_recording_is_found_in_the_directory_of_a_users_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, behind what is here and what came with the program."""
    folder = tmp_path / "dydx-bot/recordings"
    folder.mkdir(parents=True)
    path = written(folder / "mine.jsonl.zst", messages(1))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    assert find_recording("mine") == path
    assert recording_folders()[-1] == folder

    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))

    assert recording_folders()[-1] == tmp_path / "me/.local/share/dydx-bot/recordings"


def test_the_newest_message_is_read_from_the_end_of_the_file(tmp_path: Path) -> None:
    """Behind it are a tick and the end of the recording, which are none."""
    path = written(tmp_path / "r.jsonl.zst", [*messages(3), ticks(4)[-1]])

    newest = Recording(path).newest()

    assert newest == messages(3)[-1]
    assert Recording(path).newest("http") is None
    answer = Frame(1, 5, 5, "rest", "http", "{}", type="200", channel="/v4/time", id="w")
    assert Recording(written(tmp_path / "http", [answer])).newest("http") == answer


def test_the_newest_message_of_a_recording_that_was_cut_off_is_that_of_a_whole_block(
    tmp_path: Path,
) -> None:
    """And of one without messages there is none."""
    path = written(tmp_path / "r.jsonl.zst", messages(5), end=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    without = written(tmp_path / "w.jsonl.zst", ticks(2))

    assert Recording(path).newest() == messages(5)[-2]
    assert Recording(without).newest() is None


def test_a_recording_packed_again_as_one_block_is_read(tmp_path: Path) -> None:
    """`zstd -dc old | zstd -19 > new`: it has more lines a block, and packs better."""
    path = find_recording("account")
    with path.open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    again = tmp_path / "again.jsonl.zst"
    again.write_bytes(zstandard.compress(text, 19))

    recording = Recording(again)

    assert list(recording) == list(Recording(path))
    assert recording.complete


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"{}", "compressed with zstd, got a file that begins with b'{}'"),
        (b"hello, world, and more", r"got a file that begins with b'hello, world, an'"),
        (gzip.compress(b"{}"), "compressed with zstd, got a file of gzip"),
        (b"PK\x03\x04", "got a zip archive"),
        (b"SQLite format 3\x00", "got a database of SQLite"),
        (msgspec.json.encode(HEADER) + b"\n{}", "got an unpacked recording: zstd packs it"),
        (b"\x00" * 5000, "compressed with zstd"),
        (zstandard.compress(b"hello\n"), "to begin with a recording's header, got b'hello"),
        (zstandard.compress(b'{"k":"tick"}\n'), "to begin with a recording's header"),
        (zstandard.compress(b""), "to begin with a recording's header, got b''"),
        (dydx_conn._ZSTD_MAGIC, "header, got damage: bytes 0 to 4 are damaged"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """On opening, with the path and what was found."""
    path = tmp_path / "r.jsonl.zst"
    path.write_bytes(content)

    with pytest.raises(RecordingError, match=message):
        Recording(path)


def test_a_missing_recording_is_refused(tmp_path: Path) -> None:
    """So is a directory, and what has no content of its own."""
    missing, device = tmp_path / "none.jsonl.zst", Path(os.devnull)
    found = ((missing, "no such file"), (tmp_path, "a directory$"), (device, "no file but a"))
    for path, message in found:
        with pytest.raises(RecordingError, match=message):
            Recording(path)


def test_a_directory_of_recordings_is_answered_with_their_paths(tmp_path: Path) -> None:
    """The first of them, in order."""
    path = written(tmp_path / "mine.jsonl.zst", [])

    with pytest.raises(RecordingError, match=f"got a directory, with {path} in it$"):
        Recording(tmp_path)


def test_a_newer_recording_is_refused(tmp_path: Path) -> None:
    """The message names both versions and who wrote it."""
    path = tmp_path / "r.jsonl.zst"
    header = {"k": "hdr", **msgspec.to_builtins(HEADER), "v": 2}
    path.write_bytes(zstandard.compress(msgspec.json.encode(header) + b"\n"))

    with pytest.raises(RecordingError, match=r"version 1 or older, got 2: a newer release"):
        Recording(path)


# === Finding ===


def test_a_name_is_looked_for_from_here_upward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `recordings` of the working directory or any above it."""
    (tmp_path / "recordings").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    path = written(tmp_path / "recordings" / "mine.jsonl.zst", ticks(1))
    monkeypatch.chdir(tmp_path / "deep" / "er")

    assert find_recording("mine") == path
    assert dydx_conn.collect(load_recorded_stream("mine")) == ticks(1)


def test_a_path_is_taken_as_it_is() -> None:
    """With a slash, or the ending of a recording."""
    assert find_recording("some/where") == Path("some/where")
    assert find_recording("x.jsonl.zst") == Path("x.jsonl.zst")


def test_a_file_of_any_name_is_taken_where_no_recording_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it says what it is, whatever its ending; the name of a recording goes first."""
    (tmp_path / "recordings").mkdir()
    path = written(tmp_path / "recordings" / "mine.jsonl.zst", ticks(1))
    for name in ("mine", "other.rec"):
        (tmp_path / name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)

    assert find_recording("mine") == path
    assert find_recording("other.rec") == Path("other.rec")


def test_an_unknown_name_is_answered_with_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who mistyped sees what there is."""
    (tmp_path / "recordings").mkdir()
    written(tmp_path / "recordings" / "mine.jsonl.zst", [])
    monkeypatch.chdir(tmp_path)

    with pytest.raises(RecordingError, match=r"one of .*mine.*, got 'yours'"):
        find_recording("yours")
