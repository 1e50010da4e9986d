"""Answers with the passages of an index, and questions that it can answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from airflow_provider_lamini.local.inference import Task
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.local.inference import Inference
    from airflow_provider_lamini.local.rag.index import Index, Passage, Vectors

QUERY_SIZE: Final = 3
"""Passages looked up for a prompt where the request does not say."""

_SPECIAL: Final = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>")
SUGGESTIONS: Final = 3

_USER_TURN: Final = re.compile(
    r"<\|start_header_id\|>\s*user\s*<\|end_header_id\|>\s*|<\|im_start\|>\s*user\s*\n|\[INST\]\s*(?:<<SYS>>.*?<</SYS>>\s*)?",
    re.DOTALL,
)
_ROLE: Final = re.compile(
    r"<\|(?:start_header_id|im_start)\|>\s*(?:system|user|assistant)\s*(?:<\|end_header_id\|>)?"
)


def query_of(prompt: str) -> str:
    """What a prompt asks, without the marks of a chat template.

    :param prompt: the prompt as it was sent
    """
    if not _SPECIAL.search(prompt):
        return prompt
    return " ".join(_SPECIAL.sub(" ", _ROLE.sub(" ", prompt)).split()) or prompt


def query_vector(inference: Inference, prompt: str) -> Vectors:
    """The vector, of length 1, that a prompt is looked up with.

    :raises EngineError: it could not be made
    """
    vector = np.asarray(inference.embed([query_of(prompt)], DEFAULT_MODEL)[0], dtype=np.float32)
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def prompt_with(passages: Sequence[Passage], prompt: str) -> tuple[str, bool]:
    """A prompt with the passages that were found for it.

    A prompt that brings a chat template gets the passages into its user's turn. A plain one becomes the
    user's turn of a conversation.

    :param passages: what was found, the best first
    :param prompt: the prompt as it was sent
    :returns: the whole prompt, and whether the model's own chat template is still to be put around it
    """
    # The best passage stands next to the question: small models forget what stands far from it.
    found = "\n\n".join(passage.text for passage in reversed(passages))
    said = f"Answer with the passages below.\n\n{found}\n\n" if found else ""
    turn = _USER_TURN.search(prompt)
    if turn:
        return prompt[: turn.end()] + said + prompt[turn.end() :].lstrip(), False
    return said + prompt, not _SPECIAL.search(prompt)


def suggest(inference: Inference, index: Index) -> list[tuple[str, str]]:
    """Questions that an index can answer, each with its answer, made of passages from all over it.

    :raises EngineError: they could not be generated
    """
    found: list[tuple[str, str]] = []
    what = Task(
        model_name=index.model_name, output_type={"question": "str", "answer": "str"}, max_new_tokens=80
    )
    for passage in index.spread(SUGGESTIONS):
        asked = f"{passage.text}\n\nWrite one question that this text answers, and the answer."
        output = inference.complete(what, asked, chat=True).output
        if isinstance(output, dict) and output["question"]:
            found.append((str(output["question"]), str(output["answer"])))
    return found
