"""Memory RAG over HTTP: building, asking, adding. The engine's vectors mean nothing, except that equal texts have equal ones."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.api import memory_rag
from airflow_provider_lamini.platforms.lamini.dialect import LAMINI_DIALECT
from tests.support.local_platform import wait_until
from tests.support.pdf import locked, pdf
from tests.support.structure import check
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


def started(http: httpx.Client, files: dict[str, str | bytes] | None = None) -> str:
    begun = check(train(http, files), f"{RAG}/train")
    assert begun["status"] == "CREATED"
    return str(begun["job_id"])


def status(http: httpx.Client, job_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = check(http.post(f"{RAG}/status", json={"job_id": job_id}), f"{RAG}/status")
    return answer


def built(http: httpx.Client, files: dict[str, str | bytes] | None = None) -> str:
    job_id = started(http, files)
    wait_until(lambda: status(http, job_id)["status"] == "COMPLETED")
    return job_id


def ask(http: httpx.Client, job_id: str, prompt: str | list[str], **more: Any) -> Any:
    body = {"job_id": job_id, "prompt": prompt, **more}
    answer = http.post(f"{RAG}/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def log(http: httpx.Client, job_id: str) -> list[str]:
    return [
        line.split(" ", 2)[2]
        for line in check(http.get(f"{RAG}/training_log/{job_id}"), f"{RAG}/training_log/{{job_id}}")
    ]


def incoming(platform: LocalPlatform) -> set[str]:
    return {folder.name for folder in (platform.data / "memory_rag").glob("incoming-*")}


def test_an_index_is_built_and_asked(http: httpx.Client, engine: Upstream) -> None:
    job_id = built(http)
    question = FACTS["fact-3.txt"]
    engine.prompts.clear()
    engine.bodies.clear()
    answer = ask(http, job_id, question)
    lookup, prompt = engine.prompts
    assert lookup == question
    passages = prompt.removeprefix("Answer with the passages below.\n\n").split("\n\n")
    # Three passages, the best of them next to the question.
    assert len(passages) == 4
    assert passages[-2:] == [question, question]
    assert set(passages) <= set(FACTS.values())
    assert answer == {"outputs": text_for(prompt), "finish_reason": "stop"}
    assert engine.bodies[-1]["messages"] == [{"role": "user", "content": prompt}]
    assert http.get(f"{RAG}/status", params={"job_id": job_id}).json() == status(http, job_id)


def test_a_list_of_prompts_gives_lists_in_their_order(http: httpx.Client) -> None:
    job_id = built(http)
    questions = list(FACTS.values())
    answer = check(
        http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": questions, "rag_query_size": 1}),
        f"{RAG}/completions",
    )
    prompts = [f"Answer with the passages below.\n\n{fact}\n\n{fact}" for fact in questions]
    assert answer["outputs"] == [text_for(prompt) for prompt in prompts]
    assert answer["finish_reason"] == ["stop"] * len(questions)


def test_answers_follow_the_limit_and_the_output_type(http: httpx.Client) -> None:
    job_id = built(http)
    cut = ask(http, job_id, FACTS["fact-1.txt"], max_new_tokens=1)
    assert cut["finish_reason"] == "length"
    typed = ask(http, job_id, ["one", "two"], output_type={"tone": ["calm", "angry"], "n": "int"})
    assert [output["tone"] in ("calm", "angry") for output in typed["outputs"]] == [True, True]


def test_more_passages_than_there_are_give_all(http: httpx.Client, engine: Upstream) -> None:
    job_id = built(http)
    engine.prompts.clear()
    ask(http, job_id, "which?", rag_query_size=100)
    assert all(fact in engine.prompts[-1] for fact in FACTS.values())


@pytest.mark.parametrize(
    ("prompt", "lookup", "whole"),
    [
        (LLAMA, "Who?", LLAMA.replace("Who?", "{}Who?")),
        (CHATML, "Be kind. Who?", CHATML.replace("Who?", "{}Who?")),
        (INST, "Be kind. Who?", INST.replace("Who?", "{}Who?")),
    ],
)
def test_passages_go_into_the_users_turn_of_a_chat_template(
    http: httpx.Client, engine: Upstream, prompt: str, lookup: str, whole: str
) -> None:
    job_id = built(http, {"one.txt": "The only passage."})
    engine.prompts.clear()
    engine.bodies.clear()
    ask(http, job_id, prompt)
    said = "Answer with the passages below.\n\nThe only passage.\n\n"
    assert engine.prompts == [lookup, whole.format(said)]
    assert "prompt" in engine.bodies[-1]


def test_every_format_is_read_and_the_log_tells_what_was(http: httpx.Client, engine: Upstream) -> None:
    files: dict[str, str | bytes] = {
        "folder/a.txt": "Plain text.",
        "b.md": "# Title\n\nMarked text.",
        "c.html": "<title>Page</title><p>Marked up.</p>",
        "d.pdf": pdf("Printed text."),
        "empty.txt": "",
        'Żółw "quoted".txt': "Plain text.",
    }
    job_id = built(http, files)
    engine.prompts.clear()
    ask(http, job_id, "which?", rag_query_size=10)
    for text in ("Plain text.", "Title\nMarked text.", "Page\nMarked up.", "Printed text."):
        assert engine.prompts[-1].count(text) == 1
    size = sum(len(content.encode() if isinstance(content, str) else content) for content in files.values())
    lines = log(http, job_id)
    assert lines[0] == f"Received 6 files, {size} bytes."
    assert "Read 'folder/a.txt': 1 passages." in lines
    assert "Read 'empty.txt': it holds no text." in lines
    assert "Read 'Żółw \"quoted\".txt': 1 passages, 1 of them known already." in lines
    assert lines[-1] == "The index is ready: 4 passages."


def test_files_that_cannot_be_read_fail_the_build_and_are_named(http: httpx.Client) -> None:
    files: dict[str, str | bytes] = {
        **FACTS,
        "locked.pdf": locked(pdf("text"), "secret"),
        "picture.png": b"\x89PNG\r\n\x1a\n\x00\x00",
        **{f"broken-{number}.pdf": b"nothing" for number in range(6)},
    }
    job_id = started(http, files)
    wait_until(lambda: status(http, job_id)["status"] == "FAILED")
    detail = status(http, job_id)["detail"]
    assert detail.startswith("File 'locked.pdf' cannot be read: it is locked with a password.")
    assert "File 'picture.png' cannot be read: it is no text" in detail
    assert detail.endswith("So are 3 more files.")
    assert log(http, job_id)[-1] == f"FAILED: {detail}"
    refused = http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": "a"})
    assert refused.status_code == 400
    assert "status is not COMPLETED, current status: FAILED." in refused.json()["detail"]


def test_files_without_any_text_fail_the_build(http: httpx.Client) -> None:
    job_id = started(http, {"a.txt": "", "b.txt": " \n "})
    wait_until(lambda: status(http, job_id)["status"] == "FAILED")
    assert status(http, job_id)["detail"] == "None of the files holds any text."


def test_an_index_is_not_asked_before_it_is_ready(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.hold("memory_rag")
    job_id = started(http)
    assert status(http, job_id) == {"job_id": job_id, "status": "CREATED"}
    for path, more in (("completions", {"prompt": "a"}), ("add-index", {"prompt": "a"}), ("suggestions", {})):
        answer = http.post(f"{RAG}/{path}", json={"job_id": job_id, **more})
        assert answer.status_code == 400
        detail = answer.json()["detail"]
        assert detail.endswith("status is not COMPLETED, current status: CREATED.")
        assert memory_rag.state_in(detail) == "CREATED"
    assert log(http, job_id) == [f"Received 8 files, {sum(map(len, FACTS.values()))} bytes."]
    platform.control.release()
    platform.control.hold("memory_rag", after_rows=1)
    seen: list[str] = []
    wait_until(lambda: seen.append(status(http, job_id)["status"]) or seen[-1] == "COMPLETED")
    assert set(seen) <= {"CREATED", "LOADING DATA", "TRAINING MODEL", "COMPLETED"}


def test_a_build_can_be_held_between_two_parts_of_its_passages(
    http: httpx.Client, platform: LocalPlatform, engine: Upstream
) -> None:
    platform.control.hold("memory_rag", after_rows=16)
    job_id = started(http, {f"{number}.txt": f"Text {number}." for number in range(40)})
    wait_until(lambda: status(http, job_id)["status"] == "TRAINING MODEL")
    wait_until(lambda: engine.prompts)
    assert engine.prompts == [f"Text {number}." for number in range(16)]
    platform.control.release()
    wait_until(lambda: status(http, job_id)["status"] == "COMPLETED")


@pytest.mark.parametrize(
    ("state", "word"), [("failed", "FAILED"), ("timed out", "TIMED OUT"), ("cancelled", "CANCELLED")]
)
def test_a_build_can_be_made_to_end_badly(
    http: httpx.Client, platform: LocalPlatform, state: str, word: str
) -> None:
    platform.control.hold("memory_rag", after_rows=4)
    job_id = started(http, {f"{number}.txt": f"Text {number}." for number in range(40)})
    wait_until(lambda: status(http, job_id)["status"] == "TRAINING MODEL")
    assert platform.control.end(job_id, state, "because a test says so")
    assert status(http, job_id) == {"job_id": job_id, "status": word, "detail": "because a test says so"}
    assert log(http, job_id)[-1] == f"{word}: because a test says so"
    platform.control.release()
    answer = http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": "a"})
    assert f"current status: {word}. because a test says so" in answer.json()["detail"]


def test_a_build_that_was_declared_done_has_no_index(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.hold("memory_rag")
    job_id = started(http)
    platform.control.end(job_id, "succeeded")
    answer = http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": "a"})
    assert answer.status_code == 400
    assert "before its index was there" in answer.json()["detail"]


def test_vectors_that_cannot_be_made_fail_the_build(http: httpx.Client, platform: LocalPlatform) -> None:
    platform.control.row_fault("house 5")
    job_id = started(http)
    wait_until(lambda: status(http, job_id)["status"] == "FAILED")
    assert "Passages of 'fact-0.txt' got no vectors" in status(http, job_id)["detail"]


def test_a_build_waits_for_an_engine_that_cannot_answer(http: httpx.Client, engine: Upstream) -> None:
    engine.fail(503, times=2)
    built(http)


def test_a_text_that_is_added_is_found(http: httpx.Client, engine: Upstream) -> None:
    job_id = built(http)
    added = "The tower has 212 steps."
    engine.prompts.clear()
    ask(http, job_id, added, rag_query_size=1)
    assert engine.prompts[-1].count(added) == 1
    for _ in range(2):
        answer = http.post(f"{RAG}/add-index", json={"job_id": job_id, "prompt": f"# Tower\n\n{added}"})
        assert check(answer, f"{RAG}/add-index") == {"job_id": job_id, "status": "success"}
    engine.prompts.clear()
    ask(http, job_id, f"Tower\n{added}", rag_query_size=9)
    # Added twice, it is there once.
    assert engine.prompts[-1].count(f"Tower\n{added}") == 2
    assert engine.prompts[-1].endswith(f"Tower\n{added}\n\nTower\n{added}")
    assert log(http, job_id)[-2:] == [
        "Added a text: 1 passages, 1 of them new.",
        "Added a text: 1 passages, 0 of them new.",
    ]
    assert http.post(f"{RAG}/add-index", json={"job_id": job_id, "prompt": " \n"}).status_code == 400


def test_suggestions_are_questions_with_answers(http: httpx.Client) -> None:
    job_id = built(http)
    found = check(http.post(f"{RAG}/suggestions", json={"job_id": job_id}), f"{RAG}/suggestions")
    assert [list(pair) for pair in found] == [[f"Question {n}", f"Answer {n}"] for n in (1, 2, 3)]
    assert all(text for pair in found for text in pair.values())


def test_an_unknown_index_is_498(http: httpx.Client) -> None:
    for unknown in ("none-such", "0" * 32, "../datasets", "", 7):
        answers = [
            http.post(f"{RAG}/{path}", json={"job_id": unknown, "prompt": "a"})
            for path in ("status", "completions", "add-index", "suggestions")
        ]
        expected = 422 if unknown == "" else 498
        assert [answer.status_code for answer in answers] == [expected] * 4
    assert http.get(f"{RAG}/status", params={"job_id": "none-such"}).status_code == 498
    assert http.get(f"{RAG}/training_log/none-such").status_code == 498


def test_a_job_of_another_kind_is_no_index(http: httpx.Client) -> None:
    batch = http.post("/v1/batch_completions", json={"model_name": TEXT_MODEL, "prompt": ["a"]}).json()["id"]
    assert http.post(f"{RAG}/status", json={"job_id": batch}).status_code == 498


def test_models_are_checked_when_a_build_is_asked_for(http: httpx.Client, platform: LocalPlatform) -> None:
    before = incoming(platform)
    assert train(http, model_name="none/such").status_code == 594
    platform.control.loading(60, TEXT_MODEL)
    assert train(http).status_code == 513
    platform.control.reset()
    job_id = built(http)
    answer = http.post(
        f"{RAG}/completions", json={"job_id": job_id, "prompt": "a", "model_name": "none/such"}
    )
    assert answer.status_code == 594
    platform.control.loading(60)
    answer = http.post(f"{RAG}/completions", json={"job_id": job_id, "prompt": "a"})
    assert answer.status_code == 513
    assert incoming(platform) == before


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


def _part(head: str, content: str = "text") -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n".encode()


@pytest.mark.parametrize(
    ("headers", "content", "place"),
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
def test_a_form_that_does_not_fit_is_refused_and_leaves_nothing(
    http: httpx.Client, platform: LocalPlatform, headers: dict[str, str], content: bytes, place: str
) -> None:
    before = incoming(platform)
    answer = http.post(f"{RAG}/train", content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", place]
    assert incoming(platform) == before


def test_many_files_and_a_large_one_go_through_our_own_client(platform: LocalPlatform) -> None:
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
