"""The official client's pipeline over JSON Lines, for ``rows.py``; runs in the client's own environment."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lamini import GenerationNode, GenerationPipeline, PromptObject

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rows_work import MODEL, PROMPT, measured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Pipeline(GenerationPipeline):
    """One node, as the client's own examples have it."""

    def __init__(self) -> None:
        super().__init__()
        self.node = GenerationNode(model_name=MODEL, max_new_tokens=100)

    def forward(self, prompt: AsyncIterator[PromptObject]) -> AsyncIterator[PromptObject]:
        """Send the prompts through the node."""
        return self.node(prompt)


def prompts(path: str) -> Iterator[PromptObject]:
    """The rows as the client takes them."""
    with Path(path).open("rb") as lines:
        for line in lines:
            row = json.loads(line)
            yield PromptObject(prompt=PROMPT + row["text"], data={"id": row["id"]})


async def take(path: str, file: TextIO) -> None:
    """Send all rows and write the answers as they come."""
    async for answer in Pipeline().call(prompts(path)):
        file.write(json.dumps({"id": answer.data["id"], "output": answer.response}) + "\n")


if __name__ == "__main__":
    _, _, source, target, _ = sys.argv
    with Path(target).open("w") as results:
        print(json.dumps(measured(lambda: asyncio.run(take(source, results)))))
