"""The clock of a recording on a screen: how fast it plays, and where it pauses.

    frame ──► wait_ns ──► how long it is held before the run takes it

A live run has no speed: its frames never wait, for neither may the guard.
"""

from collections.abc import Callable
from typing import Final

from dydx_conn import Frame

SPEEDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
IDLE_NS: Final = 50_000_000
_LATE_NS: Final = 1_000_000_000


class Player:
    """Holds the frames of a recording until they are due; `speed` is None for a live run.

    `decisions` counts those that changed a target so far: a step goes on to the next one.
    """

    def __init__(self, speed: float | None, decisions: Callable[[], int]) -> None:
        self.speed = speed
        self.paused = False
        self._decisions = decisions
        self._anchor: tuple[int, int] | None = None
        self._step_until: int | None = None

    @property
    def is_live(self) -> bool:
        """Return whether frames come by themselves, and cannot be held."""
        return self.speed is None

    def wait_ns(self, frame: Frame, now: int, *, at_once: bool = False) -> int:
        """Return for how long a frame is held from `now` on; a pause too lets it go `at_once`."""
        if self.speed is None:
            return 0
        if self.paused:
            if at_once:
                return 0  # an act enters with the frame after it
            if self._step_until is not None and self._decisions() < self._step_until:
                return 0
            self._step_until = None
            self._anchor = None
            return IDLE_NS
        if self._anchor is None:
            self._anchor = (frame.mono, now)
        recorded, started = self._anchor
        wait_ns = int((frame.mono - recorded) / self.speed) - (now - started)
        if wait_ns < -_LATE_NS:
            self.restart()  # the program was stopped: go on from here, do not catch up
        return wait_ns

    def restart(self) -> None:
        """Count time from the next frame on, whatever passed meanwhile."""
        self._anchor = None

    def pause(self) -> None:
        """Stop the recording, or let it go on."""
        self.restart()
        self.paused = not self.paused

    def step(self) -> None:
        """Go on to the next decision to change a target, then pause; not in a live run."""
        if self.speed is not None:
            self.paused = True
            self._step_until = self._decisions() + 1

    def hurry(self, sign: int) -> None:
        """Play at the next higher speed, or with -1 at the next lower one."""
        speed = self.speed
        beyond = [each for each in SPEEDS[::sign] if speed and sign * each > sign * speed]
        if beyond:
            self.speed = beyond[0]
            self.restart()
