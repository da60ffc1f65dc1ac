"""What is counted of a run for monitors alone: begun where one may look, never otherwise.

    frame ──► Monitor.take ──► what went wrong (Faults)
                           ──► times of the layers (Stages), from the first time that one looks

Nothing here is read by a layer, and no hash covers it.
"""

from collections.abc import Callable, Mapping
from typing import Final

from dydx_conn import Frame

from bot.run.faults import Faults
from bot.run.stages import Hubbed, Stages

_NEWS: Final = frozenset({"channel_data", "channel_batch_data"})  # nearly every frame


class Monitor:
    """Counts from its making on; of the run's thread alone.

    Whoever reads it sets `is_read`: stopwatches are a load that nobody has for nothing.
    """

    def __init__(self, hubs: Callable[[], Mapping[str, Hubbed]]) -> None:
        self.stages, self.faults, self.is_read = Stages(hubs), Faults(), False

    def take(self, frame: Frame, *, followed: bool) -> None:
        """Take a frame that the layers are done with; `followed`: somebody else measures them."""
        if frame.type not in _NEWS or frame.fault:
            self.faults.take(frame)
        if self.is_read:
            self.stages.settle(measured_by_others=followed)
