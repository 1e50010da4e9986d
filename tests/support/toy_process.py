"""One step of a toy task, in a process of its own.

``execute`` starts a try and prints how it defers; ``trigger`` runs a trigger and prints its event and the modules of
platforms that the process has loaded. Then the process kills itself, as a crash would.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module
from typing import Any

from tests.support.tasks import TI, Deferral, begin


def main(step: str, arguments: dict[str, Any]) -> None:
    """Run one step.

    :param step: ``execute`` or ``trigger``
    :param arguments: of the operator, with its class's name as ``operator``; or of the deferral
    """
    if step == "execute":
        operator = getattr(import_module("toy_platform.operators"), arguments.pop("operator"))
        deferral = begin(lambda: operator(**arguments), TI.retried())
        printed: object = {
            "classpath": deferral.classpath,
            "trigger": deferral.trigger,
            "method": deferral.method,
            "kwargs": deferral.kwargs,
        }
    else:
        event = Deferral(**arguments).wait()
        names = [name for name in sys.modules if ".platforms." in name or name.startswith("toy_platform")]
        printed = {"event": event, "modules": names}
    print(json.dumps(printed), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
