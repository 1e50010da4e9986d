"""Kill the batch operators of two other providers and ours at the same moments, and count paid jobs. ``make faults-peers``.

The stub of OpenAI's batch API starts a batch for every such request, like the real API, which has no idempotency key. A retry
is a new process that starts with ``execute``, as in Airflow.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.processes import unwind_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.crash.zygote import Outcome, Phase, Zygote

MOMENTS = (
    ("before the request that starts the job is sent", "execute: POST {} is about to be sent"),
    ("the platform has started the job; the id is not read yet", "execute: POST {} is answered"),
    ("the id is known; the task has not deferred yet", "execute: the task is about to defer"),
    ("the task defers; Airflow does not know it yet", "execute: the deferral is in flight"),
    ("the trigger starts to wait (its process)", "wait: the trigger runs"),
    ("the trigger has seen the job end (its process)", "wait: the event is in flight"),
    ("the task resumes", "resume: the task resumes"),
    ("the task is done; Airflow does not know it yet", "resume: the result is in flight"),
)
"""The moments of the kills: a description, and the name of the step."""
LOST = "no crash; the response to the submission is lost"
PEERS = ("OpenAITriggerBatchOperator", "LLMBatchOperator")
MAXIMUM_TRIES = 5


@dataclass
class Batch:
    """A batch of the stub.

    :param fields: the fields of the request that started it
    :param polls: how often its status was read
    """

    fields: dict[str, Any]
    polls: int = 0


class Stub:
    """OpenAI's API for files and batches. A batch completes at the second poll.

    :ivar batches: all batches that were started
    :ivar lose: whether to lose the response to the next submission
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.lose = False
        self._requests: list[dict[str, Any]] = []

    def respond(self, method: str, path: str, body: bytes) -> bytes:
        """Answer a request."""
        resource, _, name = path.removeprefix("/v1/").partition("/")
        if resource == "files":
            return self._results() if method == "GET" else self._upload(body)
        if method == "POST":
            self.batches.append(Batch(json.loads(body)))
            name = f"batch-{len(self.batches) - 1}"
        if name:
            return json.dumps(self._status(int(name.removeprefix("batch-")))).encode()
        found = [self._shown(number) for number in reversed(range(len(self.batches)))]
        return json.dumps({"object": "list", "data": found, "has_more": False}).encode()

    def _upload(self, body: bytes) -> bytes:
        self._requests = [json.loads(line) for line in body.splitlines() if line.startswith(b'{"custom_id"')]
        fields = {
            "id": "file-1",
            "object": "file",
            "bytes": len(body),
            "created_at": 0,
            "status": "processed",
        }
        return json.dumps({**fields, "filename": "requests.jsonl", "purpose": "batch"}).encode()

    def _results(self) -> bytes:
        answer = {"choices": [{"message": {"content": "an answer"}, "finish_reason": "stop"}]}
        response = {"status_code": 200, "body": answer}
        lines = [{"custom_id": one["custom_id"], "response": response} for one in self._requests]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def _status(self, number: int) -> dict[str, Any]:
        self.batches[number].polls += 1
        return self._shown(number)

    def _shown(self, number: int) -> dict[str, Any]:
        batch = self.batches[number]
        return {
            "id": f"batch-{number}",
            "object": "batch",
            "completion_window": "24h",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-1",
            "output_file_id": "file-2",
            "status": "completed" if batch.polls > 2 else "in_progress",
            "created_at": int(time.time()),
            "metadata": batch.fields.get("metadata"),
        }


@contextmanager
def serving(stub: Stub) -> Iterator[str]:
    """Serve the stub; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def _respond(self) -> None:
            received = self.rfile.read(int(self.headers["Content-Length"] or 0))
            path = self.path.partition("?")[0]
            body = stub.respond(self.command, path, received)
            if stub.lose and self.command == "POST" and path.endswith("/batches"):
                stub.lose = False
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def started_batches(zygote: Zygote, name: str, place: Path, step: str | None) -> int:
    """Run another provider's operator with one kill or one lost response; return the number of started batches.

    :param name: the operator
    :param step: step to kill at; ``None`` loses the response instead
    """
    from tests.support.crash.zygote import Order

    place.mkdir()
    stub = Stub()
    stub.lose = step is None
    killed_in, _, moment = (step or "").partition(": ")
    killed = step is None

    def run(phase: Phase, **more: Any) -> Outcome:
        nonlocal killed
        kill = (moment, 0) if phase == killed_in and not killed else None
        outcome = zygote.run(
            Order(
                cases="tests.faults.peer_cases",
                case=name,
                place=str(place),
                phase=phase,
                env=env,
                step=kill,
                **more,
            )
        )
        killed = killed or outcome.how == "killed"
        return outcome

    with serving(stub) as url:
        fields = {"conn_type": "openai", "host": url, "password": "a-key-for-tests"}
        env = {
            "AIRFLOW_CONN_OPENAI_DEFAULT": json.dumps(fields),
            "AIRFLOW_CONN_LLM": json.dumps({**fields, "conn_type": "pydanticai"}),
        }
        for _ in range(MAXIMUM_TRIES):
            outcome = run("execute")
            if outcome.how == "deferred":
                deferral = outcome.value
                event = run("wait", deferral=deferral)
                if event.how == "killed":
                    event = run("wait", deferral=deferral)
                outcome = run("resume", deferral=deferral, event=event.value)
            if outcome.how == "returned":
                if not killed:
                    raise AssertionError(f"step never reached: {step}")
                return len(stub.batches)
    raise AssertionError(f"{step}: did not end; last outcome: {outcome.how} {outcome.error}")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", required=True, help="interpreter with the OpenAI provider")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ExitStack() as stack:
        home = Path(folder)
        os.environ.update(
            AIRFLOW_HOME=str(home / "airflow"),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER="0",
            AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS="0",
        )
        from tests.support.crash.case import world
        from tests.support.crash.cases import CASES
        from tests.support.crash.life import Harness, Trouble
        from tests.support.crash.plans import NAMED, survey
        from tests.support.crash.zygote import Zygote

        ours = Zygote("tests.support.crash.cases", home / "ours.log")
        stack.callback(ours.close)
        theirs = Zygote("tests.faults.peer_cases", home / "theirs.log", python=options.peer_python)
        stack.callback(theirs.close)
        harness = Harness(ours, stack.enter_context(world(home / "platform")), home / "lives")

        surveys = {name: dict(survey(harness, CASES[name])[0].once) for name in ("batch inference", "tuning")}

        def extra(name: str, step: str | None) -> int:
            if step is None:
                life = harness.live(CASES[name], {}, Trouble(fault="after", hold=True))
            else:
                life = harness.live(CASES[name], surveys[name][step], NAMED)
            if life.wrong or (step and not life.kills):
                raise AssertionError(life.story())
            return life.repeated + life.duplicates

        rows = []
        for number, (description, step) in enumerate([*MOMENTS, (LOST, None)]):
            peers = [
                started_batches(theirs, name, home / f"{name}-{number}", step and step.format("/v1/batches"))
                - 1
                for name in PEERS
            ]
            batch = extra("batch inference", step and step.format("/v1/batch_completions"))
            train = extra("tuning", step and step.format("/v1/train"))
            rows.append((description, *peers, batch, train))
        rows.append(("**all**", *(sum(row[column] for row in rows) for column in (1, 2, 3, 4))))
    operators = [f"`{name}`" for name in (*PEERS, "LaminiBatchInferenceOperator", "LaminiTrainOperator")]
    for row in [("killed when", *operators), ("---", *["---:"] * len(operators)), *rows]:
        print(f"| {' | '.join(map(str, row))} |")
    return 0


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
