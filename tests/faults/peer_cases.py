"""The batch operators of two other providers for the crash harness. Needs an environment with these providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from tests.support.crash.steps import Watch, request

if TYPE_CHECKING:
    from pathlib import Path
    from types import CodeType, FrameType


class PeerCase:
    """An operator that starts a batch and waits in the triggerer.

    :cvar name: the operator's class
    """

    name: ClassVar[str]
    task_state = True

    def learn(self, watch: Watch) -> None:
        """Teach a watch the named steps, with the same names as those of our operators."""
        import httpx2  # OpenAI's client uses it
        from airflow.providers.common.compat.sdk import BaseOperator

        def step(frame: FrameType, state: str) -> str:
            sent = frame.f_locals["request"]
            return f"{request(sent.method, sent.url.path)} is {state}"

        send = httpx2.Client.send.__code__
        watch._before[send] = lambda frame, _: step(frame, "about to be sent")
        watch._after[send] = lambda frame, answer: answer and step(frame, "answered")
        resume, run = self.code()
        watch._before[resume] = lambda *_: "the task resumes"
        watch._before[BaseOperator.defer.__code__] = lambda *_: "the task is about to defer"
        watch._before[run] = lambda *_: "the trigger runs"

    def code(self) -> tuple[CodeType, CodeType]:
        """Return the code of the operator's ``execute_complete``, and of its trigger's ``run``."""
        raise NotImplementedError

    def operator(self, place: Path) -> Any:
        """Create the operator, the same each time."""
        raise NotImplementedError


class OpenAIBatch(PeerCase):
    """The OpenAI provider's operator, with a file that is already uploaded."""

    name = "OpenAITriggerBatchOperator"

    def code(self) -> tuple[CodeType, CodeType]:
        from airflow.providers.openai.operators.openai import OpenAITriggerBatchOperator
        from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

        return OpenAITriggerBatchOperator.execute_complete.__code__, OpenAIBatchTrigger.run.__code__

    def operator(self, place: Path) -> Any:
        del place
        from airflow.providers.openai.operators.openai import OpenAITriggerBatchOperator

        return OpenAITriggerBatchOperator(
            task_id="batch",
            file_id="file-1",
            endpoint="/v1/chat/completions",
            deferrable=True,
            poll_interval=0.2,
        )


class CommonAIBatch(PeerCase):
    """The operator of the common.ai provider: it uploads prompts, and writes results and a record of the batch to a folder."""

    name = "LLMBatchOperator"

    def code(self) -> tuple[CodeType, CodeType]:
        from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator
        from airflow.providers.common.ai.triggers.llm_batch import LLMBatchTrigger

        return LLMBatchOperator.execute_complete.__code__, LLMBatchTrigger.run.__code__

    def operator(self, place: Path) -> Any:
        from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator

        batch = LLMBatchOperator(
            task_id="batch",
            requests=["one prompt", "another prompt"],
            result_path=f"file://{place}/results",
            llm_conn_id="llm",
            model_id="openai:a-model",
            deferrable=True,
        )
        batch.poll_interval = 0.2  # the constructor accepts 30 s and more
        return batch


ALL = {case.name: case for case in (OpenAIBatch(), CommonAIBatch())}
WARM = [
    "airflow.providers.common.ai.batch.openai",
    "airflow.providers.common.ai.operators.llm_batch",
    "airflow.providers.openai.operators.openai",
    "tests.support.crash.phases",
]
