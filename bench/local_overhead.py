"""What the local platform costs in addition to its engine.

``python bench/local_overhead.py`` starts the platform with its real models, and the same engine without the platform in a
separate process. Both get the same prompts, alternately, eight at once. The overhead per request is measured with a tiny
engine. ``--check`` exits with 1 if a bound is missed.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.support.figures import Figures, exit_status
from tests.support.processes import unwind_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDING_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CONCURRENCY = 8
TEXTS_PER_REQUEST = 16
"""Texts per embedding request."""
MIN_RATIO = 0.9
MAX_OVERHEAD = 5.0
"""Milliseconds."""


@dataclass(frozen=True)
class Round:
    """One round of requests.

    :param mark: part of each prompt, so that it differs from those of other rounds
    :param prompts: number of prompts
    :param tokens: maximum tokens per generated text; 0 to make embeddings instead
    """

    mark: str
    prompts: int
    tokens: int = 0


def make_prompts(mark: str, count: int) -> list[str]:
    """Make prompts that differ, also from those of other rounds, so that no answer comes from a cache."""
    return [
        f"Ticket {mark}{number}: order {number} has not arrived, and the customer asks where it is.\nReply:"
        for number in range(count)
    ]


def run_round(
    generate: Callable[[str, int], int], embed: Callable[[list[str]], int], request_round: Round
) -> float:
    """Run a round, eight requests at once.

    :param generate: continues a prompt by at most this number of tokens, and returns the number of characters
    :param embed: embeds texts, and returns the number of vectors
    :return: characters or vectors per second
    """
    prompts = make_prompts(request_round.mark, request_round.prompts)
    batches = [
        prompts[start : start + TEXTS_PER_REQUEST] for start in range(0, len(prompts), TEXTS_PER_REQUEST)
    ]
    started_at = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as clients:
        if request_round.tokens:
            amount = sum(clients.map(lambda prompt: generate(prompt, request_round.tokens), prompts))
        else:
            amount = sum(clients.map(embed, batches))
    return amount / (time.perf_counter() - started_at)


def serve_engine() -> None:
    """Load the engines as the platform does, and run the rounds that standard input contains, one per line."""
    from airflow_provider_lamini.local.engines.base import GenerationRequest  # noqa: TID251 - to be measured alone
    from airflow_provider_lamini.local.engines.factory import open_embedding_engine, open_text_engine  # noqa: TID251 - to be measured alone
    from airflow_provider_lamini.local.models.store import ModelStore  # noqa: TID251 - to be measured alone

    store = ModelStore()
    text_engine, embedding_engine = open_text_engine(store), open_embedding_engine(store)

    def generate(prompt: str, tokens: int) -> int:
        request = GenerationRequest(model_name=MODEL, prompt=prompt, max_tokens=tokens)
        return len(text_engine.generate(request).text)

    def embed(texts: list[str]) -> int:
        return len(embedding_engine.embed(texts, EMBEDDING_MODEL))

    generate("Warm up:", 4)
    print("ready", flush=True)
    for line in sys.stdin:
        print(run_round(generate, embed, Round(**json.loads(line))), flush=True)


@contextmanager
def engine_process() -> Iterator[Callable[[Round], float]]:
    """Run the engine without the platform in a separate process.

    :return: a function that runs a round in that process
    """
    command = [sys.executable, __file__, "--serve-engine"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, responses = process.stdin, process.stdout
        try:
            if responses.readline().strip() != "ready":
                raise RuntimeError(
                    "The engine did not start. If its models are missing, run 'lamini-local pull'."
                )

            def run(request_round: Round) -> float:
                requests.write(json.dumps(asdict(request_round)) + "\n")
                requests.flush()
                return float(responses.readline())

            yield run
        finally:
            requests.close()
            process.wait(30)


def platform_rounds(http: httpx.Client) -> Callable[[Round], float]:
    """Return a function that runs a round through the platform."""

    def generate(prompt: str, tokens: int) -> int:
        body = {"model_name": MODEL, "prompt": prompt, "max_new_tokens": tokens}
        response = http.post("/v2/completions", json=body, timeout=300).raise_for_status().json()
        outputs: str | list[str] = response["outputs"]  # a string for a single prompt
        return len(outputs if isinstance(outputs, str) else outputs[0])

    def embed(texts: list[str]) -> int:
        body = {"model_name": EMBEDDING_MODEL, "prompt": texts}
        response = http.post("/v1/embedding", json=body, timeout=300).raise_for_status().json()
        return len(response["embedding"])

    generate("Warm up:", 4)
    return lambda request_round: run_round(generate, embed, request_round)


@dataclass(frozen=True)
class Comparison:
    """Compares rounds of the engine with rounds of the platform.

    :param run_engine: runs a round without the platform, and returns characters or vectors per second
    :param run_platform: does the same through the platform
    """

    run_engine: Callable[[Round], float]
    run_platform: Callable[[Round], float]

    def measure(self, figures: Figures, title: str, request_round: Round, pairs: int, unit: str) -> None:
        """Run pairs of rounds, and compare the median of their ratios with its bound."""
        rates = []
        for number in range(pairs + 1):
            marked = replace(request_round, mark=f"{request_round.mark}{number}.")
            rates.append((self.run_engine(marked), self.run_platform(marked)))
        rates = rates[1:]  # the first pair warms up
        figures.note(f"{title}: engine called directly", median(engine for engine, _ in rates), unit)
        figures.note(f"{title}: platform over HTTP", median(platform for _, platform in rates), unit)
        ratio = median(platform / engine for engine, platform in rates)
        figures.check(f"{title}: ratio, median of pairs", ratio, ">=", MIN_RATIO)


def measure_requests(figures: Figures, count: int) -> None:
    """Measure what the platform adds to a request to a tiny engine; a model's own time would hide it."""
    from airflow_provider_lamini.local.engines.base import GenerationRequest  # noqa: TID251 - to be measured alone
    from airflow_provider_lamini.local.engines.upstream import UpstreamEngine  # noqa: TID251 - to be measured alone
    from tests.support.local_platform import local_platform
    from tests.support.upstream import TEXT_MODEL, upstream

    with (
        tempfile.TemporaryDirectory() as folder,
        upstream() as server,
        local_platform(Path(folder), server.url) as platform,
        platform.client() as http,
    ):
        engine = UpstreamEngine(server.url)

        def call_engine(prompt: str) -> None:
            engine.generate(GenerationRequest(model_name=TEXT_MODEL, prompt=prompt, max_tokens=8))

        def call_platform(prompt: str) -> None:
            body = {"model_name": TEXT_MODEL, "prompt": prompt, "max_new_tokens": 8}
            http.post("/v2/completions", json=body).raise_for_status()

        # They alternate, so that other load on the machine slows both.
        prompts = make_prompts("short", count)
        pairs = [(timed(call_engine, prompt), timed(call_platform, prompt)) for prompt in prompts]
        engine.close()
    pairs = pairs[20:]  # the first ones open connections
    figures.note("engine called directly", median(direct for direct, _ in pairs), "ms")
    figures.note("platform over HTTP", median(platform for _, platform in pairs), "ms")
    overhead = median(platform - direct for direct, platform in pairs)
    figures.check("difference, median of pairs", overhead, "<=", MAX_OVERHEAD, "ms")


def timed(send: Callable[[str], None], prompt: str) -> float:
    """Send one request, and return the milliseconds that it took."""
    started_at = time.perf_counter()
    send(prompt)
    return (time.perf_counter() - started_at) * 1000


def main() -> int:
    """Measure texts, embeddings and single requests.

    :return: the exit status
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="three times as many prompts and rounds")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    parser.add_argument("--serve-engine", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_engine:
        serve_engine()
        return 0
    from tests.support.local_platform import local_platform

    factor = 3 if options.full else 1
    figures = Figures(f"The local platform compared with its engine, {CONCURRENCY} requests at once")
    with (
        tempfile.TemporaryDirectory() as folder,
        local_platform(Path(folder)) as platform,
        engine_process() as run_engine,
        platform.client() as http,
    ):
        comparison = Comparison(run_engine, platform_rounds(http))
        texts, embeddings = Round("text", 16 * factor, tokens=24), Round("vectors", 128 * factor)
        comparison.measure(figures, "texts of 24 tokens", texts, 3 * factor, "characters/s")
        title = f"embeddings, {TEXTS_PER_REQUEST} texts per request"
        comparison.measure(figures, title, embeddings, 3 * factor, "vectors/s")
    figures.print()
    single = Figures("One request to an engine that answers at once")
    measure_requests(single, 200 * factor)
    single.print()
    return exit_status([figures, single], check=options.check)


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
