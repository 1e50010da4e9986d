"""Lenient reading of a model's answer: thinking and what surrounds an object are dropped, and certain values are converted.

Nothing changes its meaning: a fraction is never rounded, and a text never becomes another text, except that a word of an
enum may have another case.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Json

THINK_BEGINS = re.compile(
    r"<think(?:ing)?>|(?P<reasoning><reasoning>)|(?P<token>(?-i:\[THINK\]))", re.IGNORECASE
)
"""What begins thinking."""
_ENDS = {
    None: re.compile(r"</think(?:ing)?>", re.IGNORECASE),
    "reasoning": re.compile(r"</reasoning>", re.IGNORECASE),
    "token": re.compile(r"\[/THINK\]"),
}
"""What ends it, by the group of the beginning."""
THINK_TOKEN = "[THINK]"  # noqa: S105 - no secret
THINK_TAGS = ("</think", "</reasoning", THINK_TOKEN)
"""One of these is in each text with thinking, in the case in which models write them, unless it is cut off."""
_ENDS_ALONE = re.compile(r"(?:\A|\n)[ \t]*</think(?:ing)?>|</think(?:ing)?>(?=[ \t]*\n\s*\S)", re.IGNORECASE)
"""An end whose beginning the chat template has written: at the beginning of a line, or at the end of one with an answer below. A
text about the tag has it between words."""


class Thinking(NamedTuple):
    """A text, taken apart.

    :param thoughts: what the model thinks; ``None`` if it does not
    :param answer: what comes after that; empty if the thinking was cut off
    """

    thoughts: str | None
    answer: str


def split_thinking(text: str) -> Thinking:
    """Take a text apart.

    :param text: what a model has written
    """
    begin = THINK_BEGINS.match(text, len(text) - len(text.lstrip()))
    if begin is None:
        end = _ENDS_ALONE.search(text)
        if end is None or THINK_BEGINS.search(text, 0, end.start()):
            return Thinking(None, text)
        return _split(text, 0, end)
    end = end_of(begin)
    return Thinking(text[begin.end() :].strip(), "") if end is None else _split(text, begin.end(), end)


def end_of(begin: re.Match[str]) -> re.Match[str] | None:
    """Where thinking ends; ``None`` if it was cut off.

    :param begin: what `THINK_BEGINS` has found
    """
    return _ENDS[begin.lastgroup].search(begin.string, begin.end())


def _split(text: str, begin: int, end: re.Match[str]) -> Thinking:
    return Thinking(text[begin : end.start()].strip(), text[end.end() :].lstrip())


_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.0+)?")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_MAX_EXACT = 2**53
_MAX_DEPTH = 50
_MAX_BRACES = 100
"""Braces of a text at which an object is looked for: a model that repeats itself writes thousands."""
_QUOTED_KEY = re.compile(r"\{\s*(?:[\"'\u2018\u201c]|/[/*]|\Z)")
"""How an object begins, and so, where JSON cannot be decoded, one that was cut or is broken."""
_BARE_KEY = re.compile(r"\{\s*[\w$-]+\s*:")
"""How an object of JavaScript begins, but also a placeholder such as ``{x:d}``, which has no braces within."""
_BRACE = re.compile(r"[{}]")
_WORDS = {"true": True, "false": False}


def object_in(output: Json) -> Json:
    """The one object in an output.

    :param output: an object, or a text. Thinking before the answer, a code fence and words around the object are dropped.
    :return: the object; the output itself if there is none, or more than one, or if it has a name twice, so that its meaning
        is not certain
    """
    if not isinstance(output, str):
        return output
    try:
        whole: Json = msgspec.json.decode(output)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        found = _objects(_without_thinking(output))
        return found[0] if len(found) == 1 else output
    return whole if has_unique_names(output) else output


def has_unique_names(text: str) -> bool:
    """Whether no object in a JSON text has the same name twice: each decoder keeps another one of the two values.

    :param text: JSON that can be decoded
    """
    try:
        _DECODER.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _without_thinking(text: str) -> str:
    """Remove thinking. One pattern for all of it would take quadratic time if thinking begins often and never ends."""
    text = split_thinking(text).answer
    kept, position = [], 0
    while (begin := THINK_BEGINS.search(text, position)) and (end := end_of(begin)):
        kept.append(text[position : begin.start()])
        position = end.end()
    return "".join((*kept, text[position:]))


def _objects(text: str) -> list[Json]:
    """The outermost objects in a text, two at the most; none if one of them, or a list around it, was cut or is broken.

    What stands within a broken object is a part of it, and never the answer.
    """
    found: list[Json] = []
    start, attempts = text.find("{"), 0
    while start >= 0 and len(found) < 2 and attempts < _MAX_BRACES:  # noqa: PLR2004 - the second one makes it uncertain
        attempts += 1
        try:
            value, end = _DECODER.raw_decode(text, start)
            msgspec.json.encode(value)  # half of a surrogate pair is not text
        except (ValueError, RecursionError):
            if _is_broken(text, start, found):
                return []
            end = start + 1
        else:
            if _is_in_cut_list(text, start, end):
                return []
            found.append(value)
        start = text.find("{", end)
    return found


def _is_in_cut_list(text: str, start: int, end: int) -> bool:
    """Whether an object in a text is one of a list that does not end."""
    if text[:start].rstrip()[-1:] not in ("[", ","):
        return False
    depth = 0
    for bracket in re.findall(r"[][]", text[:start]):
        depth = max(0, depth + (1 if bracket == "[" else -1))
    return depth > text.count("]", end)


def _is_broken(text: str, start: int, found: Sequence[Json]) -> bool:
    """Whether the brace of a text, where no JSON can be decoded, begins an object that was cut or is broken."""
    if _QUOTED_KEY.match(text, start):
        return True
    if not _BARE_KEY.match(text, start):
        return False
    following = _BRACE.search(text, start + 1)
    return bool(found) or following is None or following[0] == "{"


def _refuse(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):  # 1e999, which would be written as null
        raise ValueError("a number is out of range")
    return number


def _with_unique_names(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_with_unique_names)
"""Decodes an object in the middle of a text, and notices a name that occurs twice; msgspec does neither."""


class Relaxation:
    """Converts values to what a JSON Schema asks for where their meaning is certain.

    :param root: the whole schema, which references refer to
    """

    def __init__(self, root: dict[str, Json]) -> None:
        self._root = root

    def relax_object(self, value: dict[str, Json]) -> dict[str, Json]:
        """Convert the values of the whole object.

        :param value: the object
        """
        relaxed = self.relax(value, self._root)
        return relaxed if isinstance(relaxed, dict) else value

    def relax(self, value: Json, schema: Json, depth: int = 0) -> Json:
        """Convert a value.

        :param value: the value
        :param schema: its schema
        :param depth: levels of the value above this one
        :return: the converted value; the value itself if it fits already, or nothing is certain
        """
        schema = self._resolved(schema)
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return value
        options = schema.get("anyOf", schema.get("oneOf"))
        if isinstance(options, list):
            return self._one_of(value, options, depth)
        if isinstance(value, dict):
            properties = schema.get("properties")
            known = properties if isinstance(properties, dict) else {}
            return {name: self.relax(item, known.get(name), depth + 1) for name, item in value.items()}
        if isinstance(value, list):
            return [self.relax(item, schema.get("items"), depth + 1) for item in value]
        allowed = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(allowed, list):
            return _allowed(value, allowed)
        kind = schema.get("type")
        kinds = kind if isinstance(kind, list) else [kind]
        return value if any(_is(value, each) for each in kinds) else _converted(value, kinds)

    def _resolved(self, schema: Json) -> Json:
        for _ in range(_MAX_DEPTH):
            reference = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(reference, str) or not reference.startswith("#"):
                return schema
            schema = self._root
            for part in reference.removeprefix("#").split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                schema = schema.get(key) if isinstance(schema, dict) else None
        return schema

    def _one_of(self, value: Json, options: list[Json], depth: int) -> Json:
        """Convert a value by the only option that leads somewhere."""
        results: list[Json] = []
        for option in options:
            relaxed = self.relax(value, option, depth + 1)
            if self._fits_shallowly(relaxed, option) and relaxed not in results:
                results.append(relaxed)
        unchanged = any(result == value and type(result) is type(value) for result in results)
        return value if unchanged or len(results) != 1 else results[0]

    def _fits_shallowly(self, value: Json, option: Json) -> bool:
        option = self._resolved(option)
        if not isinstance(option, dict):
            return True
        allowed = [option["const"]] if "const" in option else option.get("enum")
        if isinstance(allowed, list):
            return any(_same(value, each) for each in allowed)
        kind = option.get("type")
        return kind is None or any(_is(value, each) for each in (kind if isinstance(kind, list) else [kind]))


def _is(value: Json, kind: Json) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "number":
        return isinstance(value, int | float)
    types = {"string": str, "integer": int, "object": dict, "array": list, "null": type(None)}
    return isinstance(kind, str) and kind in types and isinstance(value, types[kind])


def _same(value: Json, other: Json) -> bool:
    # In Python, True == 1 and 1.0 == 1.
    return value == other and type(value) is type(other)


def _allowed(value: Json, allowed: Sequence[Json]) -> Json:
    """The value of an enum that is meant."""
    if any(_same(value, each) for each in allowed):
        return value
    if isinstance(value, str):
        word = value.strip().casefold()
        meant = [each for each in allowed if isinstance(each, str) and each.strip().casefold() == word]
        if len(meant) == 1:
            return meant[0]
    integer = _converted(value, ["integer"])
    return integer if any(_same(integer, each) for each in allowed) else value


def _converted(value: Json, kinds: Sequence[Json]) -> Json:
    """A value as one of the kinds, if it means exactly that."""
    text = value.strip() if isinstance(value, str) else ""
    if "integer" in kinds:
        if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_EXACT:
            return int(value)
        if _INTEGER.fullmatch(text):
            return int(text.partition(".")[0])
    if "number" in kinds and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        number: Json = msgspec.json.decode(text)
        return number
    if "boolean" in kinds and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return value
