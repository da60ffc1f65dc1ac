"""When a screen is drawn: four times a second, at once what matters, and never too often."""

from bot.screen.redraw import DRAW_NS, MOST, SOON_NS, Redraw

SECOND = 1_000_000_000


def test_the_first_drawing_is_due_at_once():
    """Then each is due a quarter of a second after the one before."""
    redraw = Redraw()
    first = redraw.due_ns
    redraw.later(SECOND)

    assert (first, redraw.due_ns) == (0, SECOND + DRAW_NS)


def test_what_is_urgent_is_drawn_a_moment_after_the_drawing_before():
    """Its waiting is measured from when it came, and over once it is drawn."""
    redraw = Redraw()
    redraw.drawn(SECOND)
    redraw.later(SECOND)
    redraw.soon(SECOND + 1, SECOND + 2)

    assert redraw.due_ns == SECOND + SOON_NS
    assert [redraw.drawn(redraw.due_ns), redraw.drawn(redraw.due_ns)] == [SECOND + 1, 0]


def test_no_more_than_ten_drawings_are_due_in_a_second():
    """However much is urgent; a key is answered all the same."""
    redraw = Redraw()
    for n in range(MOST):
        redraw.drawn(SECOND + n)
    redraw.later(SECOND)
    redraw.soon(SECOND + MOST, SECOND + SOON_NS)

    due = redraw.due_ns
    redraw.at_once()

    assert (due, redraw.due_ns) == (2 * SECOND, 0)
