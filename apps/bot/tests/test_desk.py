"""Questions of other threads, answered by the run's own between two frames."""

import threading

import pytest
from bot.run.composition import Bot, Options
from bot.run.desk import Desk, DeskError


@pytest.fixture(scope="module")
def bot() -> Bot:
    """Make a run that has not begun."""
    return Bot(Options.of("steady"))


def counts(bot: Bot) -> int:
    """How much was written down, a question of a module."""
    return bot.journal.written


def raises(bot: Bot) -> int:
    """A question that fails."""
    raise ValueError(f"expected no question, got one of {bot.venue.subaccount}")


@pytest.fixture
def desk(bot: Bot) -> Desk:
    """Make its desk."""
    desk = Desk()
    desk.begin(bot)
    return desk


def elsewhere(desk: Desk, question, *, latest: bool = False):
    """Put a question from another thread, and answer it on this one."""
    found: list[object] = []

    def put() -> None:
        try:
            found.append((desk.latest if latest else desk.ask)(question))
        except DeskError as error:
            found.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    while thread.is_alive():
        desk.answer()
    return found[0]


def test_a_question_is_answered_on_the_runs_own_thread(desk: Desk) -> None:
    """Whoever puts it waits until then."""
    me = threading.get_ident()
    assert elsewhere(desk, lambda bot: threading.get_ident()) == me


def test_a_question_that_fails_stops_nothing(desk: Desk) -> None:
    """Whoever put it learns why."""
    error = elsewhere(desk, raises)
    assert isinstance(error, DeskError)
    assert "ValueError: expected no question" in str(error)


def test_who_waits_too_long_learns_that_no_frames_come(desk: Desk) -> None:
    """A run that stands still does not hold those who look."""
    with pytest.raises(DeskError, match=r"within 0.01 s, got none"):
        desk.ask(counts, wait_s=0.01)


def test_the_latest_answer_is_given_at_once(desk: Desk) -> None:
    """The second question waits for nobody."""
    assert elsewhere(desk, counts, latest=True) == 0
    assert desk.latest(counts, wait_s=0.0) == 0


def test_before_a_run_has_begun_nothing_is_answered() -> None:
    """A question waits until then."""
    desk = Desk()
    desk.answer()
    with pytest.raises(DeskError):
        desk.ask(counts, wait_s=0.01)


def test_a_run_that_is_over_refuses_at_once(desk: Desk) -> None:
    """Whoever waits learns so, and whoever comes later; nobody waits until time is up."""
    found: list[object] = []
    desk.put(counts, found.append)

    desk.end()
    desk.put(counts, found.append)

    assert [str(each) for each in found] == [
        "expected a run that goes on, got one that is over"
    ] * 2


@pytest.fixture
def playing(bot: Bot) -> Desk:
    """Make the desk of a recording."""
    desk = Desk(gives_way=True)
    desk.begin(bot)
    return desk


def test_a_recording_gives_way_to_who_is_answered(playing: Desk) -> None:
    """What a guest puts is answered before the next frame, and his going lets it play on."""
    found, here, may_go = list[object](), threading.Event(), threading.Event()

    def visit() -> None:
        with playing.guest():
            here.set()
            may_go.wait(5.0)
            found.append(playing.ask(counts))

    thread = threading.Thread(target=visit)
    thread.start()
    here.wait(5.0)
    may_go.set()
    while thread.is_alive():
        playing.answer()

    assert found == [0]


def test_a_recording_waits_for_nobody_for_long(
    playing: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest who stays has it wait a moment, and then not again at once."""
    now, waited = [100.0], list[float]()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("bot.run.desk.time.monotonic", lambda: now[0])
    monkeypatch.setattr(playing._turned, "wait", wait)
    with playing.guest():
        playing.answer()
        playing.answer()

    assert waited == [pytest.approx(0.01)]


def test_without_a_guest_a_recording_does_not_wait(
    playing: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has been answered is none any more."""
    waited = list[float]()
    monkeypatch.setattr(playing._turned, "wait", waited.append)

    with playing.guest():
        pass
    playing.answer()

    assert waited == []
