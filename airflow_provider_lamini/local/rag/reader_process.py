"""Main module of the process that reads documents. It limits itself and exits when its input is closed."""

from __future__ import annotations

import gc
import json
import os
import queue
import resource
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

PASSAGES_PER_LINE: Final = 500


def main(memory: int) -> None:
    """Read documents until standard input is closed.

    :param memory: address space that this process may take, in bytes
    """
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the messages
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the limit is not supported
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    gc.disable()  # its share of the time grows with a document; memory is limited
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        for message in _read(json.loads(requests.get()), memory):
            output.write(json.dumps(message).encode() + b"\n")
        output.flush()
        gc.collect()


def _listen(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)  # even in the middle of a document


def _read(request: dict[str, Json], memory: int) -> list[dict[str, Json]]:
    """Read one document.

    :return: the messages to send
    """
    from airflow_provider_lamini.local.rag.documents import UnreadableDocumentError, read_document
    from airflow_provider_lamini.local.rag.passages import split_into_passages
    from airflow_provider_lamini.local.unexpected import describe_safely

    _limit_cpu(int(str(request["cpu_seconds"])))
    try:
        passages = split_into_passages(read_document(Path(str(request["path"])), str(request["name"])))
    except UnreadableDocumentError as error:
        return [{"error": str(error)}]
    except MemoryError:
        return [{"error": f"reading it takes more than {memory / (1 << 30):g} GiB of memory"}]
    except Exception as error:  # noqa: BLE001 - the parent raises it
        return [{"error": f"reading it failed: {describe_safely(error)}"}]
    messages: list[dict[str, Json]] = [
        {"passages": [*passages[start : start + PASSAGES_PER_LINE]]}
        for start in range(0, len(passages), PASSAGES_PER_LINE)
    ]
    return [*messages, {}]


def _limit_cpu(seconds: int) -> None:
    """Let the kernel end this process after more CPU time, beside what it has already used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    total = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (total, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(int(sys.argv[1]))
