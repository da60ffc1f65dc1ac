"""What is counted of a run for monitors alone: begun where one may look, never otherwise.

    frame ──► Monitor.take ──► times of the layers (Stages), what went wrong (Faults)

Nothing here is read by a layer, and no hash covers it.
"""

from collections.abc import Callable, Mapping

from dydx_conn import Frame

from bot.run.faults import Faults
from bot.run.stages import Hubbed, Stages


class Monitor:
    """Counts from its making on; of the run's thread alone."""

    def __init__(self, hubs: Callable[[], Mapping[str, Hubbed]]) -> None:
        self.stages, self.faults = Stages(hubs), Faults()

    def take(self, frame: Frame, *, followed: bool) -> None:
        """Take a frame that the layers are done with; `followed`: somebody else measures them."""
        self.faults.take(frame)
        self.stages.settle(measured_by_others=followed)
