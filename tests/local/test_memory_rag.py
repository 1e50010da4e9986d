"""Memory RAG over HTTP. The engine's vectors have no meaning, but equal texts have equal vectors."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.api import memory_rag
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from tests.support.contract import check
from tests.support.local_platform import wait_until
from tests.support.pdf import encrypted, pdf
from tests.support.upstream import TEXT_MODEL, text_for

if TYPE_CHECKING:
    import httpx

    from tests.support.local_platform import LocalPlatform
    from tests.support.upstream import Upstream

RAG = "/alpha/memory-rag"
FACTS = {f"fact-{number}.txt": f"The number of house {number} is {number * 7}." for number in range(8)}


LLAMA = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n Who? <|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
CHATML = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
INST = "<s>[INST] <<SYS>>Be kind.<</SYS>> Who? [/INST]"


def train(
    http: httpx.Client, files: dict[str, str | bytes] | None = None, model_name: str = TEXT_MODEL
) -> httpx.Response:
    sent = FACTS if files is None else files
    parts = [("files", (name, content)) for name, content in sent.items()]
    return http.post(f"{RAG}/train", data={"model_name": model_name}, files=parts)


def start_build(http: httpx.Client, files: dict[str, str | bytes] | None = None) -> str:
    job = check(train(http, files), f"{RAG}/train")
    assert job["status"] == "CREATED"
    return str(job["job_id"])


def status(http: httpx.Client, job_id: str) -> dict[str, Any]:
    response: dict[str, Any] = check(http.post(f"{RAG}/status", json={"job_id": job_id}), f"{RAG}/status")
    return response


def build_index(http: httpx.Client, files: dict[str, str | bytes] | None = None) -> str:
    job_id = start_build(http, files)
    wait_until(lambda: status(http, job_id)["status"] == "COMPLETED")
    return job_id


def ask(http: httpx.Client, job_id: str, prompt: str | list[str], **more: Any) -> Any:
    body = {"job_id": job_id, "prompt": prompt, **more}
    response = http.post(f"{RAG}/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def log(http: httpx.Client, job_id: str) -> list[str]:
    return [
        line.split(" ", 2)[2]
        for line in check(http.get(f"{RAG}/training_log/{job_id}"), f"{RAG}/training_log/{{job_id}}")
    ]


def incoming(platform: LocalPlatform) -> set[str]:
    return {folder.name for folder in (platform.data / "memory_rag").glob("incoming-*")}


def test_an_index_is_built_and_queried(http: httpx.Client, engine: Upstream) -> None:
    job_id = build_index(http)
    question = FACTS["fact-3.txt"]
    engine.prompts.clear()
    engine.bodies.clear()
    response = ask(http, job_id, question)
    lookup, prompt = engine.prompts
    assert lookup == question
    passages = prompt.removeprefix("Answer with the passages below.\n\n").split("\n\n")
    # Three passages, with the best one next to the question.
    assert len(passages) == 4
    assert passages[-2:] == [question, question]
    assert set(passages) <= set(FACTS.values())
    assert response == {"outputs": text_for(prompt), "finish_reason": "stop"}
    assert engine.bodies[-1]["messages"] == [{"role": "user", "content": prompt}]
    assert http.get(f"{RAG}/status", params={"job_id": job_id}).json() == status(http, job_id)


def test_a_list_of_prompts_returns_lists_in_the_same_order(http: httpx.Client) -> None:
    job_id = build_index(http)
    questions = list(FACTS.values())
    response = check(
        http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": questions, "rag_query_size": 1}),
        f"{RAG}/completions",
    )
    prompts = [f"Answer with the passages below.\n\n{fact}\n\n{fact}" for fact in questions]
    assert response["outputs"] == [text_for(prompt) for prompt in prompts]
    assert response["finish_reason"] == ["stop"] * len(questions)


def test_completions_respect_the_token_limit_and_output_type(http: httpx.Client) -> None:
    job_id = build_index(http)
    cut = ask(http, job_id, FACTS["fact-1.txt"], max_new_tokens=1)
    assert cut["finish_reason"] == "length"
    typed = ask(http, job_id, ["one", "two"], output_type={"tone": ["calm", "angry"], "n": "int"})
    assert [output["tone"] in ("calm", "angry") for output in typed["outputs"]] == [True, True]


def test_a_query_size_beyond_the_index_returns_all_passages(http: httpx.Client, engine: Upstream) -> None:
    job_id = build_index(http)
    engine.prompts.clear()
    ask(http, job_id, "which?", rag_query_size=100)
    assert all(fact in engine.prompts[-1] for fact in FACTS.values())


@pytest.mark.parametrize(
    ("prompt", "lookup", "expected"),
    [
        (LLAMA, "Who?", LLAMA.replace("Who?", "{}Who?")),
        (CHATML, "Be kind. Who?", CHATML.replace("Who?", "{}Who?")),
        (INST, "Be kind. Who?", INST.replace("Who?", "{}Who?")),
    ],
)
def test_passages_go_into_the_users_turn_of_a_chat_template(
    http: httpx.Client, engine: Upstream, prompt: str, lookup: str, expected: str
) -> None:
    job_id = build_index(http, {"one.txt": "The only passage."})
    engine.prompts.clear()
    engine.bodies.clear()
    ask(http, job_id, prompt)
    introduction = "Answer with the passages below.\n\nThe only passage.\n\n"
    assert engine.prompts == [lookup, expected.format(introduction)]
    assert "prompt" in engine.bodies[-1]


def test_every_format_is_read_and_logged(http: httpx.Client, engine: Upstream) -> None:
    files: dict[str, str | bytes] = {
        "folder/a.txt": "Plain text.",
        "b.md": "# Title\n\nMarked text.",
        "c.html": "<title>Page</title><p>Marked up.</p>",
        "d.pdf": pdf("Printed text."),
        "empty.txt": "",
        'Żółw "quoted".txt': "Plain text.",
    }
    job_id = build_index(http, files)
    engine.prompts.clear()
    ask(http, job_id, "which?", rag_query_size=10)
    for text in ("Plain text.", "Title\nMarked text.", "Page\nMarked up.", "Printed text."):
        assert engine.prompts[-1].count(text) == 1
    size = sum(len(content.encode() if isinstance(content, str) else content) for content in files.values())
    lines = log(http, job_id)
    assert lines[0] == f"Received 6 files, {size} bytes."
    assert "Read 'folder/a.txt': 1 passages." in lines
    assert "Read 'empty.txt': it contains no text." in lines
    assert "Read 'Żółw \"quoted\".txt': 1 passages, 1 already known." in lines
    assert lines[-1] == "The index is ready: 4 passages."


def test_unreadable_files_fail_the_build_and_are_named(http: httpx.Client) -> None:
    files: dict[str, str | bytes] = {
        **FACTS,
        "encrypted.pdf": encrypted(pdf("text"), "secret"),
        "picture.png": b"\x89PNG\r\n\x1a\n\x00\x00",
        **{f"broken-{number}.pdf": b"nothing" for number in range(6)},
    }
    job_id = start_build(http, files)
    wait_until(lambda: status(http, job_id)["status"] == "FAILED")
    detail = status(http, job_id)["detail"]
    assert detail.startswith("Cannot read file 'encrypted.pdf': it is locked with a password.")
    assert "Cannot read file 'picture.png': it is not text" in detail
    assert detail.endswith("3 more files cannot be read.")
    assert log(http, job_id)[-1] == f"FAILED: {detail}"
    refusal = http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": "a"})
    assert refusal.status_code == 400
    assert "status is not COMPLETED, current status: FAILED." in refusal.json()["detail"]


def test_files_without_any_text_fail_the_build(http: httpx.Client) -> None:
    job_id = start_build(http, {"a.txt": "", "b.txt": " \n "})
    wait_until(lambda: status(http, job_id)["status"] == "FAILED")
    assert status(http, job_id)["detail"] == "The files contain no text."


def test_an_index_cannot_be_queried_before_it_is_ready(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.hold("memory_rag")
    job_id = start_build(http)
    assert status(http, job_id) == {"job_id": job_id, "status": "CREATED"}
    for path, more in (("completions", {"prompt": "a"}), ("add-index", {"prompt": "a"}), ("suggestions", {})):
        response = http.post(f"{RAG}/{path}", json={"job_id": job_id, **more})
        assert response.status_code == 400
        detail = response.json()["detail"]
        assert detail.endswith("status is not COMPLETED, current status: CREATED.")
    assert log(http, job_id) == [f"Received 8 files, {sum(map(len, FACTS.values()))} bytes."]
    platform.control.release()
    platform.control.hold("memory_rag", after_rows=1)
    seen: list[str] = []
    wait_until(lambda: seen.append(status(http, job_id)["status"]) or seen[-1] == "COMPLETED")
    assert set(seen) <= {"CREATED", "LOADING DATA", "TRAINING MODEL", "COMPLETED"}


def test_a_build_can_be_held_between_batches_of_passages(
    http: httpx.Client, platform: LocalPlatform, engine: Upstream
) -> None:
    platform.control.hold("memory_rag", after_rows=16)
    job_id = start_build(http, {f"{number}.txt": f"Text {number}." for number in range(40)})
    wait_until(lambda: status(http, job_id)["status"] == "TRAINING MODEL")
    wait_until(lambda: engine.prompts)
    assert engine.prompts == [f"Text {number}." for number in range(16)]
    platform.control.release()
    wait_until(lambda: status(http, job_id)["status"] == "COMPLETED")


@pytest.mark.parametrize(
    ("state", "word"), [("failed", "FAILED"), ("timed out", "TIMED OUT"), ("cancelled", "CANCELLED")]
)
def test_a_build_can_be_forced_to_fail(
    http: httpx.Client, platform: LocalPlatform, state: str, word: str
) -> None:
    platform.control.hold("memory_rag", after_rows=4)
    job_id = start_build(http, {f"{number}.txt": f"Text {number}." for number in range(40)})
    wait_until(lambda: status(http, job_id)["status"] == "TRAINING MODEL")
    assert platform.control.end(job_id, state, "because a test says so")
    assert status(http, job_id) == {"job_id": job_id, "status": word, "detail": "because a test says so"}
    assert log(http, job_id)[-1] == f"{word}: because a test says so"
    platform.control.release()
    response = http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": "a"})
    assert f"current status: {word}. because a test says so" in response.json()["detail"]


def test_a_build_forced_to_succeed_has_no_index(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.hold("memory_rag")
    job_id = start_build(http)
    platform.control.end(job_id, "succeeded")
    response = http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": "a"})
    assert response.status_code == 400
    assert "before its index was complete" in response.json()["detail"]


def test_a_build_fails_if_its_passages_cannot_be_embedded(
    http: httpx.Client, platform: LocalPlatform
) -> None:
    platform.control.row_fault("house 5")
    job_id = start_build(http)
    wait_until(lambda: status(http, job_id)["status"] == "FAILED")
    assert "Could not embed passages of 'fact-0.txt'" in status(http, job_id)["detail"]


def test_a_build_waits_for_an_unavailable_engine(http: httpx.Client, engine: Upstream) -> None:
    engine.fail(503, times=2)
    build_index(http)


def test_an_added_text_is_found(http: httpx.Client, engine: Upstream) -> None:
    job_id = build_index(http)
    added = "The tower has 212 steps."
    engine.prompts.clear()
    ask(http, job_id, added, rag_query_size=1)
    assert engine.prompts[-1].count(added) == 1
    for _ in range(2):
        response = http.post(f"{RAG}/add-index", json={"job_id": job_id, "prompt": f"# Tower\n\n{added}"})
        assert check(response, f"{RAG}/add-index") == {"job_id": job_id, "status": "success"}
    engine.prompts.clear()
    ask(http, job_id, f"Tower\n{added}", rag_query_size=9)
    # The text was added twice, but is stored once.
    assert engine.prompts[-1].count(f"Tower\n{added}") == 2
    assert engine.prompts[-1].endswith(f"Tower\n{added}\n\nTower\n{added}")
    assert log(http, job_id)[-2:] == [
        "Added a text: 1 passages, 1 of them new.",
        "Added a text: 1 passages, 0 of them new.",
    ]
    assert http.post(f"{RAG}/add-index", json={"job_id": job_id, "prompt": " \n"}).status_code == 400


def test_suggestions_are_questions_with_answers(http: httpx.Client) -> None:
    job_id = build_index(http)
    found = check(http.post(f"{RAG}/suggestions", json={"job_id": job_id}), f"{RAG}/suggestions")
    assert [list(pair) for pair in found] == [[f"Question {n}", f"Answer {n}"] for n in (1, 2, 3)]
    assert all(text for pair in found for text in pair.values())


def test_an_unknown_index_returns_498(http: httpx.Client) -> None:
    for unknown in ("none-such", "0" * 32, "../datasets", "", 7):
        responses = [
            http.post(f"{RAG}/{path}", json={"job_id": unknown, "prompt": "a"})
            for path in ("status", "completions", "add-index", "suggestions")
        ]
        expected = 422 if unknown == "" else 498
        assert [response.status_code for response in responses] == [expected] * 4
    assert http.get(f"{RAG}/status", params={"job_id": "none-such"}).status_code == 498
    assert http.get(f"{RAG}/training_log/none-such").status_code == 498


def test_a_job_of_another_kind_is_not_an_index(http: httpx.Client) -> None:
    batch = http.post("/v1/batch_completions", json={"model_name": TEXT_MODEL, "prompt": ["a"]}).json()["id"]
    assert http.post(f"{RAG}/status", json={"job_id": batch}).status_code == 498


def test_models_are_checked_before_a_build_starts(http: httpx.Client, platform: LocalPlatform) -> None:
    before = incoming(platform)
    assert train(http, model_name="none/such").status_code == 594
    platform.control.loading(60, TEXT_MODEL)
    assert train(http).status_code == 513
    platform.control.reset()
    job_id = build_index(http)
    response = http.post(
        f"{RAG}/completions", json={"job_id": job_id, "prompt": "a", "model_name": "none/such"}
    )
    assert response.status_code == 594
    platform.control.loading(60)
    response = http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": "a"})
    assert response.status_code == 513
    assert incoming(platform) == before


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


def _part(head: str, content: str = "text") -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n".encode()


@pytest.mark.parametrize(
    ("headers", "content", "field"),
    [
        ({"Content-Type": "application/json"}, json.dumps({"model_name": "a"}).encode(), "files"),
        (MULTIPART, _part('name="model_name"') + b"--b--\r\n", "files"),
        (MULTIPART, _part('name="files"; filename="a.txt"') + b"--b--\r\n", "model_name"),
        (MULTIPART, _part('name="files"') + b"--b--\r\n", "files"),
        (MULTIPART, _part('name="documents"; filename="a.txt"') + b"--b--\r\n", "documents"),
        (MULTIPART, _part('filename="a.txt"') + b"--b--\r\n", "files"),
        (MULTIPART, _part('name="files"; filename="a.txt"'), "files"),
        (MULTIPART, b"no form", "files"),
        (MULTIPART, b"", "files"),
        (MULTIPART, _part('name="model_name"', "m" * (1 << 20)) + b"x" * 10, "model_name"),
    ],
)
def test_an_invalid_form_is_rejected_and_leaves_no_files_behind(
    http: httpx.Client, platform: LocalPlatform, headers: dict[str, str], content: bytes, field: str
) -> None:
    before = incoming(platform)
    response = http.post(f"{RAG}/train", content=content, headers=headers)
    assert response.status_code == 422, response.text
    assert response.json()["detail"][0]["loc"] == ["body", field]
    assert incoming(platform) == before


def test_the_providers_client_uploads_many_files_and_a_large_one(platform: LocalPlatform) -> None:
    texts = {f"{number}.txt": f"Small text {number}.".encode() for number in range(400)}
    texts["large.txt"] = b"word " * 400_000
    parts = [FilePart(name, lambda content=content: io.BytesIO(content)) for name, content in texts.items()]
    platform.control.hold("memory_rag", after_rows=1)
    with Client(ClientSettings(dialect=LAMINI_DIALECT, base_url=platform.url, key=platform.key)) as client:
        job = client.send(memory_rag.train(model_name=TEXT_MODEL, files=parts))
        wait_until(lambda: client.send(memory_rag.status(job.job_id)) == "TRAINING MODEL")
        lines = client.send(memory_rag.training_log(job.job_id))
    assert lines[0].endswith(f"Received 401 files, {sum(map(len, texts.values()))} bytes.")
    platform.control.end(job.job_id, "cancelled")
