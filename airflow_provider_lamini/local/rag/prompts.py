"""Prompts with passages: embeds a question, adds passages to it, and suggests questions about an index."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from airflow_provider_lamini.local.inference import CompletionSettings
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.local.inference import InferenceService
    from airflow_provider_lamini.local.rag.index import Index, Passage, Vectors

DEFAULT_QUERY_SIZE: Final = 3
"""Number of passages to retrieve for a prompt if the request does not set it."""

SUGGESTIONS: Final = 3
"""Number of questions to suggest."""

_TEMPLATE_MARK: Final = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>")
_USER_TURN: Final = re.compile(
    r"<\|start_header_id\|>\s*user\s*<\|end_header_id\|>\s*|<\|im_start\|>\s*user\s*\n|\[INST\]\s*(?:<<SYS>>.*?<</SYS>>\s*)?",
    re.DOTALL,
)
_ROLE: Final = re.compile(
    r"<\|(?:start_header_id|im_start)\|>\s*(?:system|user|assistant)\s*(?:<\|end_header_id\|>)?"
)


def strip_chat_template(prompt: str) -> str:
    """Return the text of a prompt without the marks of a chat template."""
    if not _TEMPLATE_MARK.search(prompt):
        return prompt
    return " ".join(_TEMPLATE_MARK.sub(" ", _ROLE.sub(" ", prompt)).split()) or prompt


def embed_query(inference: InferenceService, prompt: str) -> Vectors:
    """Return the normalized vector to search for a prompt's passages with.

    :raises EngineError: the prompt could not be embedded
    """
    query = strip_chat_template(prompt)
    vector = np.asarray(inference.embed([query], DEFAULT_MODEL)[0], dtype=np.float32)
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def prompt_with_passages(passages: Sequence[Passage], prompt: str) -> tuple[str, bool]:
    """Add passages to a prompt.

    In a prompt with a chat template, they go into the user's turn. A plain prompt gets them at its start.

    :param passages: the retrieved passages, best first
    :param prompt: the client's prompt
    :return: the new prompt, and whether the model's chat template must still be applied
    """
    # Best passage last, next to the question: small models forget text that is far away from it.
    texts = "\n\n".join(passage.text for passage in reversed(passages))
    introduction = f"Answer with the passages below.\n\n{texts}\n\n" if texts else ""
    turn = _USER_TURN.search(prompt)
    if turn:
        return prompt[: turn.end()] + introduction + prompt[turn.end() :].lstrip(), False
    return introduction + prompt, not _TEMPLATE_MARK.search(prompt)


def suggest_questions(inference: InferenceService, index: Index) -> list[tuple[str, str]]:
    """Generate questions that an index can answer, from passages all over it.

    :return: question and answer of each suggestion
    :raises EngineError: the questions could not be generated
    """
    suggestions: list[tuple[str, str]] = []
    settings = CompletionSettings(
        model_name=index.model_name, output_type={"question": "str", "answer": "str"}, max_new_tokens=80
    )
    for passage in index.sample(SUGGESTIONS):
        prompt = f"{passage.text}\n\nWrite one question that this text answers, and the answer."
        output = inference.complete(settings, prompt, chat=True).output
        if isinstance(output, dict) and output["question"]:
            suggestions.append((str(output["question"]), str(output["answer"])))
    return suggestions
