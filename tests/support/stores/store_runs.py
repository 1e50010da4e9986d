"""A batch inference on an object store that misbehaves, and what must be true afterwards."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.support.tasks import TI

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.races import BatchPlatform
    from tests.support.stores.emulators import Emulator
    from tests.support.stores.proxy import Fault, StoreProxy

CHUNK = 2
ROWS = 3 * CHUNK
MAX_TRIES = 6

_numbers = count()


@dataclass(slots=True)
class Damage:
    """What a run has done wrong.

    :param tries: how many tries it took
    :param doubled: prompts that were sent more than once
    :param lost: rows without a result
    :param wrong: other defects
    """

    tries: int = 0
    doubled: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.doubled or self.lost or self.wrong)


class TaskStates(dict[str, object]):
    """Airflow's task state store."""

    set, delete = dict.__setitem__, dict.__delitem__


@dataclass(slots=True)
class StoreRun:
    """Runs a task on a store, each time with other rows and in another folder.

    :param emulator: the store's emulator
    :param proxy: leads to it
    :param platform: what the rows are sent to
    :param name: a folder of its own in the bucket
    """

    emulator: Emulator
    proxy: StoreProxy
    platform: BatchPlatform
    name: str

    def environment(self) -> dict[str, str]:
        """The environment in which a task finds the store and the platform."""
        fields = {
            "conn_type": "lamini",
            "host": self.platform.url,
            "password": "a-key",
            "extra": {"retry_budget": 3},
        }
        return self.emulator.environment(self.proxy.url) | {"AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(fields)}

    def write(self, path: str, content: str) -> str:
        """Write a file to the store, and return its URI.

        :param path: path in the folder
        :param content: its text
        """
        from airflow_provider_lamini.compat import object_storage_path

        uri = self.emulator.uri(f"{self.name}/{path}")
        object_storage_path(uri).write_bytes(content.encode())
        return uri

    def rows(self, rows: int = ROWS) -> str:
        """Write rows that no other run has, and return the URI of the file.

        :param rows: how many
        """
        number = next(_numbers)
        lines = [json.dumps({"id": row, "text": f"{self.name} {number} {row}"}) for row in range(rows)]
        return self.write(f"in-{number}.jsonl", "\n".join(lines))

    def operator(self, source: str, output: str, **more: Any) -> Any:
        """Create a batch inference.

        :param source: URI of the rows
        :param output: name of its folder
        :param more: other arguments
        """
        from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

        arguments = {"chunk_size": CHUNK, "max_in_flight": 2, "deferrable": True, "poll_interval": 0.1}
        return LaminiBatchInferenceOperator(
            task_id="infer",
            input=source,
            prompt="{text}",
            passthrough=["id"],
            model_name="m",
            output=self.emulator.uri(f"{self.name}/{output}"),
            **arguments | more,
        )

    def live(self, fault: Fault | None, *, deferrable: bool = True) -> Damage:
        """Run a task while the store misbehaves; retry it until it succeeds, and compare what it leaves.

        :param fault: what goes wrong, counted from the first request of the task
        :param deferrable: whether it waits in the triggerer
        """
        source, output, states = self.rows(), f"out-{next(_numbers)}", TaskStates()
        damage, ti = Damage(), TI
        self.proxy.reset(fault)
        while damage.tries < MAX_TRIES:
            damage.tries += 1
            try:
                self._try(source, output, states, ti, deferrable=deferrable)
                break
            except Exception as error:  # noqa: BLE001 - whatever a try raises, the next one must succeed
                if type(error).__name__ == "InvalidArgumentError" and self.sent(source):
                    damage.wrong.append(f"final although something was sent: {error}")
                ti = ti.retried()
        else:
            damage.wrong.append(f"no end after {MAX_TRIES} tries")
        self._judge(source, output, damage)
        return damage

    def sent(self, source: str) -> Counter[str]:
        """How often each row of an input was sent.

        :param source: URI of the input
        """
        number = source.rpartition("in-")[2].partition(".")[0]
        return Counter(
            {
                text: times
                for text, times in self.platform.prompts.items()
                if text.startswith(f"{self.name} {number} ")
            }
        )

    def requests(self, *, deferrable: bool) -> int:
        """How many requests a run takes without faults."""
        damage = self.live(None, deferrable=deferrable)
        assert not damage, damage
        return self._requests

    def _try(self, source: str, output: str, states: TaskStates, ti: Any, *, deferrable: bool) -> None:
        from airflow.providers.common.compat.sdk import TaskDeferred

        from tests.support.tasks import Deferral, through_json

        context = {"ti": ti, "task_state_store": states}

        def make() -> Any:
            return self.operator(source, output, deferrable=deferrable, on_unknown_submission="fail")

        operator = make()
        step: Callable[[], object] = partial(type(operator).execute.__wrapped__, operator, context)
        while True:
            try:
                step()
            except TaskDeferred as deferred:
                classpath, kwargs = deferred.trigger.serialize()
                deferral = Deferral(
                    classpath, through_json(kwargs), deferred.method_name, deferred.kwargs or {}
                )
            else:
                return
            event = deferral.wait()
            step = partial(getattr(make(), deferral.method), context, event=event, **deferral.kwargs)

    _requests: int = 0

    def _judge(self, source: str, output: str, damage: Damage) -> None:
        from airflow_provider_lamini.results import read_outputs

        self._requests = len(self.proxy.log())
        self.proxy.reset()
        damage.doubled = sum(times - 1 for times in self.sent(source).values())
        try:
            found = [row["id"] for row in read_outputs(self.emulator.uri(f"{self.name}/{output}"))]
        except Exception as error:  # noqa: BLE001 - results that cannot be read are lost
            damage.wrong.append(f"the results cannot be read: {error!r}")
            found = []
        damage.lost = len(set(range(ROWS)) - set(found))
        if found != list(range(ROWS)):
            damage.wrong.append(f"the rows are {found}")
