"""The heartbeat of this process, for the process that supervises it.

From `heart.start()` on, a thread writes the number of the last step to the file that
STEMFORGE_HEARTBEAT names, every second. A process that is stopped, or waits forever inside an
operation that holds the interpreter, writes nothing.
"""

import os
import threading
import time
from pathlib import Path

from stemforge.pipelines.running.work import end_with_parent

HEARTBEAT = "STEMFORGE_HEARTBEAT"
BEAT_S = 1.0


class _Heart:
    """What is written.

    Attributes:
        step: the last one that was done.
    """

    def __init__(self) -> None:
        self.step = -1

    def start(self) -> None:
        """Starts the heartbeat where it is asked for; call it before TensorFlow loads."""
        if HEARTBEAT in os.environ:
            end_with_parent()
            threading.Thread(
                target=self._beat, args=(Path(os.environ[HEARTBEAT]),), daemon=True
            ).start()

    def _beat(self, path: Path) -> None:
        while True:
            path.write_text(str(self.step), encoding="ascii")
            time.sleep(BEAT_S)


heart = _Heart()
