"""What the local platform costs on top of the engine behind it.

``python bench/local_overhead.py`` starts the platform with its real models, and beside it, in a process of its own,
the same engine without a platform. Both get the same prompts by turns, eight at once. What the platform adds to one
request is measured before a tiny engine. ``--check`` ends with 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.support.bounds import Figures, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
VECTORS = "sentence-transformers/all-MiniLM-L6-v2"
AT_ONCE = 8
PER_REQUEST = 16
"""Texts of one request for vectors."""
LEAST_RATIO = 0.9
MOST_OVERHEAD = 5.0
"""Milliseconds."""

PollMode = dict[str, float]
"""What one round took: ``seconds``, and ``done``: characters, or vectors."""


def prompts(number: int, mark: str) -> list[str]:
    """Prompts that differ, also from those of other rounds, so that none is answered from a cache."""
    return [
        f"Ticket {mark}{each}: order {each} has not arrived, and the customer asks where it is.\nReply:"
        for each in range(number)
    ]


def at_once(ask: Callable[[Any], int], items: list[Any]) -> PollMode:
    """Ask for all items, eight at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as clients:
        done = sum(clients.map(ask, items))
    return {"seconds": time.perf_counter() - began, "done": done}


def rounds(
    write: Callable[[str, int], int], embed: Callable[[list[str]], int], asked: dict[str, Any]
) -> PollMode:
    """One round of what was asked, with either way to write and to embed.

    :param write: continues a prompt by at most so many tokens; gives the characters that came
    :param embed: makes vectors of texts; gives how many came
    :param asked: ``what``, ``number`` and ``mark``, and ``tokens`` for texts
    """
    texts = prompts(asked["number"], asked["mark"])
    if asked["what"] == "text":
        return at_once(lambda prompt: write(prompt, asked["tokens"]), texts)
    return at_once(embed, [texts[at : at + PER_REQUEST] for at in range(0, len(texts), PER_REQUEST)])


def serve_directly() -> None:
    """Load the engines as the platform does, and take rounds from standard input, a line each."""
    from airflow_provider_lamini.local.engines.base import GenerationRequest  # noqa: TID251 - to be measured alone
    from airflow_provider_lamini.local.engines.factory import open_embedding_engine, open_text_engine  # noqa: TID251 - to be measured alone
    from airflow_provider_lamini.local.models.store import ModelStore  # noqa: TID251 - to be measured alone

    store = ModelStore()
    texts, vectors = open_text_engine(store), open_embedding_engine(store)

    def write(prompt: str, tokens: int) -> int:
        request = GenerationRequest(model_name=MODEL, prompt=prompt, max_tokens=tokens)
        return len(texts.generate(request).text)

    def embed(some: list[str]) -> int:
        return len(vectors.embed(some, VECTORS))

    write("Warm up:", 4)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(rounds(write, embed, json.loads(line))), flush=True)


@contextmanager
def direct() -> Iterator[Callable[[dict[str, Any]], PollMode]]:
    """The engine without a platform, in a process of its own.

    :returns: takes a round there
    """
    command = [sys.executable, __file__, "--serve-directly"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin, process.stdout
        try:
            if back.readline().strip() != "ready":
                raise RuntimeError("The engine did not start; are its models there? lamini-local pull")

            def take(asked: dict[str, Any]) -> PollMode:
                to.write(json.dumps(asked) + "\n")
                to.flush()
                took: PollMode = json.loads(back.readline())
                return took

            yield take
        finally:
            to.close()
            process.wait(30)


def through(http: httpx.Client) -> Callable[[dict[str, Any]], PollMode]:
    """The platform over HTTP.

    :returns: takes a round there
    """

    def write(prompt: str, tokens: int) -> int:
        body = {"model_name": MODEL, "prompt": prompt, "max_new_tokens": tokens}
        answer = http.post("/v2/completions", json=body, timeout=300).raise_for_status().json()
        outputs: str | list[str] = answer["outputs"]  # bare for one prompt
        return len(outputs if isinstance(outputs, str) else outputs[0])

    def embed(some: list[str]) -> int:
        body = {"model_name": VECTORS, "prompt": some}
        return len(http.post("/v1/embedding", json=body, timeout=300).raise_for_status().json()["embedding"])

    write("Warm up:", 4)
    return lambda asked: rounds(write, embed, asked)


def compare(
    ways: dict[str, Callable[[dict[str, Any]], PollMode]], asked: dict[str, Any], pairs: int
) -> dict[str, list[PollMode]]:
    """Rounds by turns, the first of each left out: it warms up."""
    found: dict[str, list[PollMode]] = {name: [] for name in ways}
    for number in range(pairs + 1):
        for name, take in ways.items():
            found[name].append(take(asked | {"mark": f"{asked['what']}{number}."}))
    return {name: each[1:] for name, each in found.items()}


def rates(figures: Figures, found: dict[str, list[PollMode]], what: str, unit: str) -> None:
    """Print both rates and hold their ratio against its bound."""
    engine, platform = (
        [way["done"] / way["seconds"] for way in found[name]] for name in ("engine", "platform")
    )
    figures.note(f"{what}: engine called directly", median(engine), unit)
    figures.note(f"{what}: platform over HTTP", median(platform), unit)
    ratio = median(ours / bare for ours, bare in zip(platform, engine, strict=True))
    figures.bound(f"{what}: platform against engine", ratio, ">=", LEAST_RATIO)


def per_request(figures: Figures, number: int) -> None:
    """What the platform adds to a request, before a tiny engine: a model's own time would hide it."""
    from airflow_provider_lamini.local.engines.base import GenerationRequest  # noqa: TID251 - to be measured alone
    from airflow_provider_lamini.local.engines.upstream import UpstreamEngine  # noqa: TID251 - to be measured alone
    from tests.support.local_platform import local_platform
    from tests.support.upstream import TEXT_MODEL, upstream

    with (
        tempfile.TemporaryDirectory() as folder,
        upstream() as engine,
        local_platform(Path(folder), engine.url) as platform,
        platform.client() as http,
    ):
        alone = UpstreamEngine(engine.url)

        def directly(prompt: str) -> None:
            alone.generate(GenerationRequest(model_name=TEXT_MODEL, prompt=prompt, max_tokens=8))

        def over_http(prompt: str) -> None:
            body = {"model_name": TEXT_MODEL, "prompt": prompt, "max_new_tokens": 8}
            http.post("/v2/completions", json=body).raise_for_status()

        pairs = [(timed(directly, prompt), timed(over_http, prompt)) for prompt in prompts(number, "short")]
        alone.close()
    # The first ones open connections. By turns, so that whatever else runs on the machine slows both.
    settled = pairs[20:]
    figures.note("engine", median(pair[0] for pair in settled), "ms")
    figures.note("platform before the engine", median(pair[1] for pair in settled), "ms")
    added = median(through - bare for bare, through in settled)
    figures.bound("added by the platform, median of the pairs", added, "<=", MOST_OVERHEAD, "ms")


def timed(ask: Callable[[str], None], prompt: str) -> float:
    """Milliseconds that one request took."""
    began = time.perf_counter()
    ask(prompt)
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """Measure all three.

    :returns: the exit status
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="three times as many prompts and rounds")
    parser.add_argument("--check", action="store_true", help="end with 1 where a bound is missed")
    parser.add_argument("--serve-directly", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_directly:
        serve_directly()
        return 0
    from tests.support.local_platform import local_platform

    times = 3 if options.full else 1
    figures = Figures("The local platform beside its engine, 8 requests at once")
    with (
        tempfile.TemporaryDirectory() as folder,
        local_platform(Path(folder)) as platform,
        direct() as bare,
        platform.client() as http,
    ):
        ways = {"engine": bare, "platform": through(http)}
        texts = compare(ways, {"what": "text", "number": 16 * times, "tokens": 24}, 3 * times)
        rates(figures, texts, "texts of 24 tokens", "characters/s")
        vectors = compare(ways, {"what": "vectors", "number": 128 * times}, 3 * times)
        rates(figures, vectors, f"vectors, {PER_REQUEST} per request", "vectors/s")
    figures.show()
    short = Figures("One request after another, before an engine that answers at once")
    per_request(short, 200 * times)
    short.show()
    return exit_code([figures, short], check=options.check)


if __name__ == "__main__":
    sys.exit(main())
