"""Engines: the same results on each, whatever becomes of a worker."""

import asyncio
import concurrent.futures
import importlib
import itertools
import operator
import os
import pickle
import re
import ssl
import stat
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from bot.__main__ import main
from bot.commands import COMMANDS
from bot.config.loaded import load
from bot.engines import cluster, serving
from bot.engines import work as working
from bot.engines.certificates import make_certificates, security_of
from bot.engines.cluster import address_of
from bot.engines.engine import Here, engine_of, results_of
from bot.engines.errors import EngineError, why
from bot.engines.local import Local
from bot.engines.work import Answer, Lost, Stamp, stamp, taken, work
from bot.live.runs import chosen
from dydx_conn import ConnError
from msgspec.structs import replace as with_fields

# What a worker can do without a module of this test: call what it is handed.
CALL: Any = operator.call


def test_here_works_on_tasks_in_their_order():
    """The engine of this process is a loop."""
    with engine_of("here") as engine:
        found = list(engine.run(abs, [-3, 2]))

    assert found == [(0, 3), (1, 2)]


def test_a_killed_worker_costs_no_result_and_a_task_that_kills_two_is_lost(tmp_path):
    """One task ends its worker each time, one only the first time: the others never notice."""
    once = f"os._exit(1) if not os.path.exists({str(tmp_path / 'x')!r}) and "
    once += f"not os.mkdir({str(tmp_path / 'x')!r}) else 7"
    code = f"__import__('builtins').eval({once!r}, {{'os': __import__('os')}})"
    tasks = [partial(abs, -1), partial(os._exit, 9), partial(eval, code), partial(abs, -4)]

    with Local(2) as engine:
        found = dict(engine.run(CALL, tasks))

    lost = Lost("its worker ended without an answer, 2 times")
    assert found == {0: 1, 1: lost, 2: 7, 3: 4}


def test_what_a_task_raises_is_raised_here_and_ends_the_workers():
    """A bug in a task is no result: it is raised with where it was."""
    engine = Local(1)

    with engine, pytest.raises(ZeroDivisionError) as caught:
        list(engine.run(CALL, [partial(divmod, 1, 0)]))

    assert "divmod" not in str(caught.value)
    assert "Traceback" in str(caught.value.__cause__)
    assert engine._context.workers == []


def test_a_worker_of_other_code_refuses_a_task():
    """The function is not even called."""
    other = Stamp(version="bot 0.1.0", sources="0" * 64)

    answer = work(os._exit, 1, other)

    assert answer == Answer(stamp())
    found = taken(answer, other)
    assert isinstance(found, Lost)
    assert found.why.startswith("another version: expected bot 0.1.0, sources 000000000000, got")


def test_sources_that_differ_have_another_stamp(monkeypatch):
    """An edit of any layer makes other code of it; of an executable its commit counts."""
    found = [stamp()]
    for packages, version in ((("bot",), "bot 1"), ((), "bot 1"), ((), "bot 2")):
        monkeypatch.setattr(working, "_PACKAGES", packages)
        monkeypatch.setattr(working, "described", lambda version=version: version)
        stamp.cache_clear()
        found.append(stamp())
    stamp.cache_clear()

    assert len({one.sources for one in found}) == 4


@pytest.mark.parametrize("text", ["", "locally", "local:0", "local:x", "here:2", "ray://h:1"])
def test_an_unknown_engine_is_refused(text):
    """What names no engine is repeated beside what does."""
    with pytest.raises(EngineError, match=r"expected an engine .*here, local, local:4"):
        engine_of(text)


def test_the_number_of_workers_is_in_the_text_or_beside_it():
    """A number in the text goes before the option; without any it is one a processor."""
    assert [engine_of("local:3", 2).workers, engine_of("local", 2).workers] == [3, 2]
    assert engine_of("local").workers >= 1


@pytest.mark.parametrize("text", ["10.0.0.2:8786", "example.com", "0.0.0.0:1"])
def test_a_scheduler_beyond_loopback_without_certificates_is_refused(text):
    """Nothing is connected to: whoever reaches a scheduler runs code."""
    with pytest.raises(EngineError, match=r"mutual TLS is needed .*nothing was connected to"):
        engine_of(f"dask://{text}")


@pytest.mark.parametrize("text", ["", ":", "127.0.0.1:x", "127.0.0.1:1/x"])
def test_an_address_of_no_scheduler_is_refused(text):
    """What is expected is shown."""
    with pytest.raises(EngineError, match=r"expected a scheduler as 127.0.0.1:8786"):
        address_of(text, None)


def test_certificates_make_an_address_one_of_tls():
    """On loopback TLS is a choice, beyond it a must; a port may be left out."""
    folder = Path("certs")

    assert address_of("localhost", None) == "tcp://localhost:8786"
    assert address_of("[::1]", None) == "tcp://[::1]:8786"
    assert address_of("10.0.0.2:9", folder) == "tls://10.0.0.2:9"


def test_certificates_are_of_the_owner_alone_and_never_overwritten(tmp_path):
    """A CA, three roles; a second time is refused, and so is a key that others may read."""
    folder = tmp_path / "certs"
    made = make_certificates(folder, datetime(2026, 11, 30, tzinfo=UTC))

    assert {path.name for path in made} == {
        "ca.pem", "scheduler.pem", "scheduler-key.pem", "worker.pem", "worker-key.pem",
        "client.pem", "client-key.pem",
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    with pytest.raises(ConnError, match="expected a folder without certificates"):
        make_certificates(folder, datetime(2026, 11, 30, tzinfo=UTC))
    (folder / "client-key.pem").chmod(0o644)
    with pytest.raises(ConnError, match="readable by you alone"):
        security_of(folder, "client")
    with pytest.raises(ConnError, match=r"expected certificates of bot sweep certs in .*ca\.pem"):
        security_of(tmp_path, "client")


def test_options_go_to_another_process_without_secrets():
    """What decides is the same there; what else was configured stays here."""
    typed = {
        "database.url": ("--database", "postgresql://me:secret@h/db"),
        "policy.max_leverage": ("--x", 1.5),
        "strategy": ("--strategy", "folder/mine.py"),
    }
    options = chosen(load(typed, environment={}), 5_000)

    sent = pickle.dumps(options)
    again = pickle.loads(sent)

    assert b"secret" not in sent
    assert again.config is not None
    assert options.config is not None
    assert again.config.hash == options.config.hash
    assert with_fields(again, config=None) == with_fields(options, config=None)


def test_results_come_in_the_order_of_their_tasks_or_not_at_all():
    """One that is lost is an error, with why."""
    done: list[int] = []

    class Backwards(Here):
        def run(self, function, tasks):
            yield from reversed([*super().run(function, tasks)])

    class Losing(Here):
        def run(self, function, tasks):
            yield 0, Lost("its worker ended")

    assert results_of(Backwards(), abs, [-1, -2, -3], done.append) == [1, 2, 3]
    assert done == [3, 2, 1]
    with pytest.raises(EngineError, match=r"of each of 2 tasks, got: its worker ended"):
        results_of(Losing(), abs, [1, 2])


class Elsewhere:
    """An engine that is not this process, as far as anybody knows."""

    workers = 2

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, function, tasks):
        """Yield what comes back of a pickled task, the last one first."""
        for number in reversed(range(len(tasks))):
            yield number, function(pickle.loads(pickle.dumps(tasks[number])))


@pytest.mark.replays
@pytest.mark.parametrize(
    "words",
    [
        ["prove", "rank", "quickstart", "--seconds", "8", "--cuts", "2"],
        ["calibrate", "quickstart", "--seconds", "8", "--horizon", "3", "--json"],
        ["chaos", "quickstart", "--seconds", "8", "--seeds", "1", "--json"],
    ],
)
def test_commands_print_the_same_on_every_engine(words, capsys, monkeypatch):
    """Tasks are cut otherwise and come back in another order: what is found is the same."""
    module = importlib.import_module(COMMANDS[words[0]].does.partition(":")[0])
    printed = []
    for engine in (Here(), Elsewhere()):
        monkeypatch.setattr(module, "engine_typed", lambda _, engine=engine: engine)
        main(words)
        out = capsys.readouterr().out
        printed.append([line for line in out.splitlines() if not TIMED.search(line)])

    assert printed[0] == printed[1] != []


TIMED = re.compile("took_s|frames_per_s")


class Future:
    """What a client of Dask returns for a task: a result, or what is raised."""

    def __init__(self, result):
        self._result = result

    def result(self):
        """Return it, or raise it."""
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result

    def done(self):
        """Return that it is."""
        return True

    def add_done_callback(self, call):
        """Call at once: it is done."""
        call(self)


class Late(Future):
    """One that is done once somebody looked whether there are workers, and there were."""

    def __init__(self, result):
        super().__init__(result)
        self.call = None

    def add_done_callback(self, call):
        """Keep what is called."""
        self.call = call


class KilledError(Exception):
    """A task that ended more workers than it may."""

    allowed_failures = 1


class Dask:
    """Dask's module, as far as an engine uses it; the tasks are what comes of them."""

    scheduler = SimpleNamespace(KilledWorker=KilledError)
    status = "running"

    def __init__(self, *, reached=True, workers=2, futures=(), looks=()):
        self.reached, self.known, self.closed = reached, workers, False
        self.futures, self.looks = [*futures], [*looks]

    def Client(self, address, **_):  # noqa: N802  # as Dask has it
        """Connect, if there is anybody."""
        if not self.reached:
            raise OSError(f"nobody at {address}")
        return self

    def wait_for_workers(self, count, timeout):
        """Find workers, if there are any."""
        if self.known is None:
            raise OSError("not connected")
        if not self.known:
            raise TimeoutError

    def nthreads(self):
        """Return the workers."""
        return {str(n): 1 for n in range(self.known)}

    def scheduler_info(self):
        """Return the workers as they are at this look; at the last one all is done."""
        if self.looks[0] is None:
            self.status = "closed"
            raise OSError("not connected")
        self.known = self.looks.pop(0)
        if not self.looks:
            for future in self.futures:
                future.call(future)
        return {"workers": self.nthreads()}

    def submit(self, _, function, task, wanted, **__):
        """Return what a task is made of."""
        if self.status == "closed":
            raise KilledError
        made = function(task)
        return made if isinstance(made, Future) else Future(made)

    def cancel(self, _):
        """Refuse where it is closed."""
        if self.status == "closed":
            raise KilledError

    def close(self, timeout):
        """Close it."""
        self.closed = True


def of_dask(dask: Dask, monkeypatch) -> Any:
    """Return an engine on it."""
    monkeypatch.setattr(cluster, "require_distributed", lambda: dask)
    return engine_of("dask://127.0.0.1:8786")


def test_what_comes_back_of_a_cluster_is_a_result_or_lost_with_why(monkeypatch):
    """A worker that was killed, cannot read a task, is of other code, or answers nonsense."""
    other = Stamp(version="bot 0", sources="0")
    comes = [Answer(stamp(), 7), Answer(other), KilledError(), ModuleNotFoundError("bot"), 5]
    dask = Dask()

    with of_dask(dask, monkeypatch) as engine:
        found = dict(engine.run(lambda task: task, comes))

    assert (engine.workers, dask.closed, found.pop(0)) == (2, True, 7)
    whys = [found[n].why for n in sorted(found)]
    assert whys[0].startswith("another version: expected")
    assert whys[1:] == [
        "its worker ended without an answer, 2 times",
        "expected a worker that can read it, got ModuleNotFoundError: bot",
        "expected an answer of its worker, got int",
    ]


def test_a_scheduler_that_goes_away_ends_the_run(monkeypatch):
    """What is finished stays with whoever got it; nothing more is given to it."""
    dask = Dask()
    cancelled = [asyncio.CancelledError(), concurrent.futures.CancelledError()]

    for error in cancelled:
        with (
            of_dask(dask, monkeypatch) as engine,
            pytest.raises(EngineError, match="it went away"),
        ):
            list(engine.run(lambda task: task, [error]))
    dask.status = "closed"
    with of_dask(dask, monkeypatch) as engine, pytest.raises(EngineError, match="it went away"):
        list(engine.run(lambda task: task, [7]))


def test_a_task_that_cannot_be_sent_is_a_bug_that_is_raised(monkeypatch):
    """The scheduler is there: it is not what went away."""
    with of_dask(Dask(), monkeypatch) as engine, pytest.raises(TypeError):
        list(engine.run(len, [7]))


@pytest.mark.parametrize(
    ("dask", "words"),
    [
        (Dask(reached=False), r"expected a scheduler at tcp://127.0.0.1:8786 .*nobody at"),
        (Dask(workers=0), r"expected workers of the scheduler .*got none"),
        (Dask(workers=None), r"expected the scheduler at .* to answer, it went away"),
    ],
)
def test_a_cluster_without_scheduler_or_workers_is_refused(dask, words, monkeypatch):
    """What to start is named."""
    with pytest.raises(EngineError, match=words), of_dask(dask, monkeypatch):
        pass


def test_a_run_waits_for_workers_where_none_is_left_and_goes_on(monkeypatch, capsys):
    """Both are reported, once, and nothing is lost."""
    monkeypatch.setattr(cluster, "_LOOK_S", 0.0)
    late = Late(Answer(stamp(), 7))
    dask = Dask(futures=[late], looks=[2, 0, 0, 1])

    with of_dask(dask, monkeypatch) as engine:
        found = list(engine.run(lambda task: task, [late]))

    assert found == [(0, 7)]
    assert capsys.readouterr().err.splitlines() == [
        "bot: no worker is left at tcp://127.0.0.1:8786 (bot sweep worker): waits 10 minutes for "
        "one",
        "bot: there are workers again at tcp://127.0.0.1:8786: goes on",
    ]


def test_a_run_that_nobody_works_on_is_given_up(monkeypatch):
    """Ten minutes without any worker are enough."""
    monkeypatch.setattr(cluster, "_LOOK_S", 0.0)
    monkeypatch.setattr(cluster, "_ALONE_S", 0.0)
    late = Late(Answer(stamp(), 7))

    with (
        of_dask(Dask(futures=[late], looks=[0, 0, 0]), monkeypatch) as engine,
        pytest.raises(EngineError, match=r"expected workers .*got none for 0 minutes"),
    ):
        list(engine.run(lambda task: task, [late]))


def test_a_scheduler_that_goes_away_while_all_wait_ends_the_run(monkeypatch):
    """Nothing is to be cancelled there, and nobody waits for its workers."""
    monkeypatch.setattr(cluster, "_LOOK_S", 0.0)
    late = Late(Answer(stamp(), 7))

    with (
        of_dask(Dask(futures=[late], looks=[2, None]), monkeypatch) as engine,
        pytest.raises(EngineError, match="it went away"),
    ):
        list(engine.run(lambda task: task, [late]))


# === Scheduler and workers ===


class Running:
    """A scheduler or a worker of Dask that ends at once; `begun` has what each was begun with."""

    begun: ClassVar[list[dict[str, Any]]] = []
    fails = False

    def __init__(self, address="", **how):
        self.address = address or f"{how['protocol']}{how['host']}:{how['port']}"
        self.begun.append(how)

    async def __aenter__(self):
        if self.fails:
            raise OSError(98, "Address already in use")
        return self

    async def __aexit__(self, *_):
        pass

    async def finished(self):
        """End."""


@pytest.fixture
def running(monkeypatch):
    """Return what stands in for a scheduler and for workers."""
    of_dask = SimpleNamespace(Scheduler=Running, Nanny=Running)
    monkeypatch.setattr(serving, "require_distributed", lambda: of_dask)
    monkeypatch.setattr(Running, "begun", [])
    return Running


def test_a_scheduler_listens_on_loopback_and_has_no_pages(running, capsys):
    """Its address is printed; whoever would look at its pages finds none."""
    assert main(["sweep", "scheduler"]) == 0

    assert capsys.readouterr().out == "scheduler    tcp://127.0.0.1:8786\n"
    (how,) = running.begun
    assert (how["host"], how["security"], how["dashboard"]) == ("127.0.0.1", None, False)


def test_workers_end_with_their_scheduler(running, capsys):
    """As many as were typed, on loopback where the scheduler is; then it is reported as gone."""
    assert main(["sweep", "worker", "127.0.0.1:9", "--workers", "2"]) == 1

    printed = capsys.readouterr()
    assert printed.out == "workers      2, of tcp://127.0.0.1:9\n"
    assert printed.err == "bot: the scheduler at tcp://127.0.0.1:9 is gone\n"
    assert [(how["host"], how["nthreads"]) for how in running.begun] == [("127.0.0.1", 1)] * 2


@pytest.mark.parametrize(
    ("role", "words"),
    [("scheduler", "expected to listen at tcp"), ("worker", "expected a scheduler at tcp")],
)
def test_what_cannot_be_begun_is_one_line(role, words, running, capsys, monkeypatch):
    """A port in use, or nobody there."""
    monkeypatch.setattr(running, "fails", True)

    assert main(["sweep", role, "127.0.0.1:9"]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Address already in use" in err


@pytest.mark.parametrize(
    ("causes", "with_certificates", "words"),
    [
        ([RuntimeError("Nanny"), ConnectionResetError()], False, "one with certificates wants"),
        ([OSError(), ssl.SSLError(), ValueError("not idle")], True, "one without certificates"),
        ([RuntimeError("Nanny"), OSError("no route")], True, "OSError: no route"),
    ],
)
def test_why_nothing_was_connected_to_is_the_end_of_a_chain(causes, with_certificates, words):
    """One who left out --certs, or typed them for nothing, reads that, and no traceback."""
    for error, cause in itertools.pairwise(causes):
        error.__cause__ = cause

    assert words in why(causes[0], with_certificates=with_certificates)
