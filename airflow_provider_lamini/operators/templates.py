"""How the operators render their arguments: data stays as it is, and a prompt may be a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jinja2
    from airflow.providers.common.compat.sdk import Context

PROMPT_SUFFIXES = (".txt", ".md", ".j2", ".jinja2")
FILE_FIELDS = {
    "prompt": PROMPT_SUFFIXES,
    "answer": PROMPT_SUFFIXES,
    "system": PROMPT_SUFFIXES,
    "input_sql": (".sql",),
}
"""The arguments that may name a file with their text, and the suffixes of such a file."""
TEXT_FIELDS = (
    "input",
    "examples",
    "prompt",
    "answer",
    "messages",
    "system",
    "stop",
    "columns",
    "passthrough",
)
"""The arguments with texts that are sent, or with names of columns."""
_LONGEST_NAME = 255


Operator = TypeVar("Operator", bound=type[BaseOperator])


def renders_only_templates(operator: Operator) -> Operator:
    """Class decorator of operators that take data: they render only texts that contain a template, and read prompt files.

    With ``render_template_as_native_obj``, Airflow renders each text of a list by itself: ``"3.10"`` becomes ``3.1``, and
    ``"+48100200300"`` a number. A text without a template is data, so it stays as it is. In arguments with texts that are sent
    (`TEXT_FIELDS`), so does a text that a template renders, unless it is the text of a list, a tuple or a mapping.

    A prompt that is the name of a file, such as ``prompts/summary.txt`` or ``prompts/summary.j2``, is replaced by the file's
    content, as Airflow does it for ``template_ext``: relative to the Dag file and to ``template_searchpath``. Airflow's own
    ``template_ext`` stays empty, because it would also read an ``input`` that ends in ``.txt``.

    :param operator: the class; those derived from it do the same
    """
    methods: Any = operator
    methods.resolve_template_files = _resolve_template_files
    methods.render_template = _render_template
    return operator


def _resolve_template_files(self: BaseOperator) -> None:
    """Read prompts from files. Airflow calls this when it has parsed the Dag."""
    for field, suffixes in FILE_FIELDS.items():
        if field not in self.template_fields:
            continue
        found = _read_file(self, getattr(self, field), suffixes)
        if found is not None:
            setattr(self, field, found)
    self.prepare_template()


def _render_template(
    self: BaseOperator,
    content: Any,
    context: Context,
    jinja_env: jinja2.Environment | None = None,
    seen_oids: set[int] | None = None,
) -> Any:
    """Render a value; a text only if it contains a template. Parameters as Airflow declares them."""
    environment: Any = jinja_env or self.get_template_env()
    exact = environment if isinstance(environment, _TextEnvironment) else None
    if exact is None and any(content is getattr(self, field, None) for field in TEXT_FIELDS):
        exact = environment = _TextEnvironment(environment)
    if not isinstance(content, str):
        # Airflow passes the environment on to the items of a list and to the values of a mapping.
        return BaseOperator.render_template(self, content, context, environment, seen_oids)
    for field, suffixes in FILE_FIELDS.items():
        if content is getattr(self, field, None):
            # The Dag processor has read it already, unless the task is mapped or the Dag was not parsed from a file.
            file_content = _read_file(self, content, suffixes)
            content = content if file_content is None else file_content
    if not has_template(content, environment if exact is None else exact.environment):
        return content
    rendered = BaseOperator.render_template(self, content, context, environment, seen_oids)
    return rendered if exact is None else exact.as_text(rendered)


class _TextEnvironment:
    """Jinja's environment, with a memory for what its last template gave, before native rendering has read a value in it.

    :param environment: the environment, which does everything
    """

    def __init__(self, environment: jinja2.Environment) -> None:
        self.environment = environment
        self._given: list[object] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.environment, name)

    def from_string(self, source: str) -> jinja2.Template:
        """Load a template from its source."""
        template = self.environment.from_string(source)
        render = template.root_render_func
        given = self._given = []

        def remember(context: jinja2.runtime.Context) -> Iterator[str]:
            for part in render(context):
                given.append(part)
                yield part

        template.root_render_func = remember
        return template

    def as_text(self, rendered: object) -> object:
        """What the last template gave: a text as it was, unless it is that of a list, a tuple or a mapping; else the object.

        :param rendered: what native or other rendering has made of it
        """
        if not self._given or (len(self._given) == 1 and not isinstance(self._given[0], str)):
            return rendered
        text = "".join(map(str, self._given))
        is_data = isinstance(rendered, (list, tuple, dict)) and text.startswith(("[", "(", "{"))
        return rendered if is_data else text


def _read_file(operator: BaseOperator, value: object, suffixes: tuple[str, ...]) -> str | None:
    """The content of an argument's file; ``None`` if the value is not the name of an existing file."""
    if not isinstance(value, str) or not value.endswith(suffixes):
        return None
    if len(value) > _LONGEST_NAME or any(character in value for character in "\n\0{}"):
        return None
    from jinja2 import TemplateNotFound

    environment = operator.get_template_env()
    if environment.loader is None:
        return None
    try:
        content, _, _ = environment.loader.get_source(environment, value)
    except TemplateNotFound:
        return None  # it may also be the name of a column
    return str(content).removesuffix("\n")


def has_template(text: str, environment: jinja2.Environment) -> bool:
    """Whether Jinja would do anything to a text.

    :param text: the text
    :param environment: decides what marks a template
    """
    if environment.line_statement_prefix or environment.line_comment_prefix:
        return True
    starts = (
        environment.variable_start_string,
        environment.block_start_string,
        environment.comment_start_string,
    )
    return any(start in text for start in starts)
