"""Training a classifier from descriptions of its classes and examples."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError
from airflow_provider_lamini.operators.single import SingleJobOperator
from airflow_provider_lamini.operators.submit_once import OrphanSearch
from airflow_provider_lamini.runs.arguments import json_object, one_of, optional_name, plain_name
from airflow_provider_lamini.runs.submission_record import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.corpus.examples import Examples
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.platforms.lamini.api.classifiers import ClassifierJob
    from airflow_provider_lamini.runs.submission_record import Submission


class LaminiClassifierTrainOperator(SingleJobOperator[dict[str, object]]):
    """Creates a classifier project, or extends it by more examples, and waits for the trained model.

    Where the platform has no project of the name, it is created from ``classes`` and ``examples``
    (``POST /v2/classifier/initialize``; allow about a minute per class). Where it has, ``examples`` go into a dataset of
    the project (``POST /v2/classifier/add``), and the classifier is trained again on all that the project holds
    (``POST /v2/classifier/train``). The platform cannot change the classes of a project: for that, take another name.

    Datasets are added once: one whose name the project has already is left as it is. By default the name is made of the
    examples' content, so that the same examples in the next run are not added a second time.

    A retry attaches to the job of an earlier try, and finds it in the project's list where its id was lost.

    Other endpoints: ``GET /v2/classifier/projects``, ``.../{project}/datasets``, ``.../{project}/jobs``,
    ``.../{project}/models``, ``.../{job}/status``, ``POST /v2/classifier/update_job`` to cancel.

    :param project: name of the project
    :param model_name: the model that reads the descriptions; needed to create a project
    :param classes: class to its description, a mapping or JSON text; needed to create a project
    :param examples: class to a list of texts; or a list of rows; or a path, URI or glob on object storage: JSON Lines,
        CSV, or Parquet (extra ``parquet``). All of them go in one request and are held in memory.
    :param prompt: where ``examples`` are rows: the text, the name of a column or a template over columns, such as
        ``"{subject}: {body}"``
    :param answer: where ``examples`` are rows: the class that is right, likewise
    :param dataset_name: name of the dataset that examples for an existing project go to
    :param on_existing: what to do where the project exists: ``extend`` it, or ``fail``
    :param input_conn_id: the connection for the examples' object storage
    :return: ``project``, ``job_id``, ``model_id``, ``status`` (the platform's word), and, where a record of the
        submission is kept, the numbers of ``classes`` and ``examples`` that were sent and ``created`` (1 or 0)
    """

    template_fields: Sequence[str] = (
        *SingleJobOperator.template_fields,
        "project",
        "model_name",
        "classes",
        "examples",
        "prompt",
        "answer",
        "dataset_name",
        "on_existing",
        "input_conn_id",
    )
    template_fields_renderers = {"classes": "json"}  # noqa: RUF012 - as Airflow declares it

    list_delay: ClassVar[float] = 10.0
    """Seconds after which a job that was submitted just before the task died is in the project's list at last."""

    def __init__(
        self,
        *,
        project: str,
        model_name: str | None = None,
        classes: Mapping[str, str] | str | None = None,
        examples: Mapping[str, Sequence[str]] | Sequence[Mapping[str, object]] | str | None = None,
        prompt: str = "text",
        answer: str = "class",
        dataset_name: str | None = None,
        on_existing: str = "extend",
        input_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.model_name = model_name
        self.classes = classes
        self.examples = examples
        self.prompt = prompt
        self.answer = answer
        self.dataset_name = dataset_name
        self.on_existing = on_existing
        self.input_conn_id = input_conn_id
        self._examples: Examples | None = None

    @property
    def kind(self) -> JobKind:
        """See :class:`SingleJobOperator`."""
        from airflow_provider_lamini.platforms.lamini.kinds import CLASSIFIER

        return CLASSIFIER

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.corpus.pairs import Columns

        super().check()
        plain_name("project", self.project)
        try:
            self._columns = Columns.parse(self.prompt, self.answer)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error
        optional_name("model_name", self.model_name)
        optional_name("dataset_name", self.dataset_name)
        optional_name("input_conn_id", self.input_conn_id)
        self._extends = one_of("on_existing", self.on_existing, ("extend", "fail")) == "extend"
        self._classes = self._described()
        if self._classes is None and not self._extends:
            raise InvalidArgumentError(
                "classes is needed: on_existing='fail' means that the project is created."
            )

    def _described(self) -> dict[str, str] | None:
        given = json_object("classes", self.classes)
        if given is None:
            return None
        described = {name: value for name, value in given.items() if isinstance(value, str) and value.strip()}
        if len(described) < len(given) or not all(name.strip() for name in described):
            raise InvalidArgumentError("classes must give each class a name and a description, both texts.")
        if len({name.strip() for name in described}) < len(described):
            raise InvalidArgumentError("classes has two whose names differ in blanks only.")
        if not described:
            raise InvalidArgumentError("classes is empty. Give each class a description.")
        return described

    def fingerprint_inputs(self) -> Mapping[str, object]:
        """See :class:`SingleJobOperator`."""
        from airflow_provider_lamini.corpus.examples import read_examples

        if self.examples is not None:
            known = None if self._classes is None else tuple(self._classes)
            self._examples = read_examples(
                self.examples, self._columns, classes=known, conn_id=self.input_conn_id
            )
        return {
            "project": self.project,
            "model_name": self.model_name,
            "classes": self._classes,
            "examples": self._examples,
            "dataset_name": self.dataset_name,
            "on_existing": self.on_existing,
        }

    def submit(self, mark: str) -> str:
        """See :class:`SingleJobOperator`. Whether the project exists is asked at this moment."""
        del mark  # a job of a classifier has no place for one
        from airflow_provider_lamini.platforms.lamini.api import classifier_projects

        exists = self.project in self.hook.send(classifier_projects.list_projects())
        call = self._extend() if exists else self._create()
        examples = sum(map(len, (self._examples or {}).values()))
        self.note(
            before=self._jobs() if exists else [],
            numbers={"classes": len(self._classes or ()), "examples": examples, "created": int(not exists)},
        )
        return self.hook.send(call).job_id

    def _create(self) -> Call[ClassifierJob]:
        from airflow_provider_lamini.platforms.lamini.api import classifiers

        if self._classes is None or self.model_name is None:
            raise ValueError(
                f"The platform has no classifier project {self.project!r}. To create it, give classes and model_name."
            )
        self.log.info("Creating project %s with %d classes.", self.project, len(self._classes))
        return classifiers.initialize(
            name=self.project, model_name=self.model_name, classes=self._classes, examples=self._examples
        )

    def _extend(self) -> Call[ClassifierJob]:
        from airflow_provider_lamini.platforms.lamini.api import classifier_projects, classifiers

        if not self._extends:
            raise ValueError(
                f"The classifier project {self.project!r} exists already. Take another name, or on_existing='extend'."
            )
        if self._examples is not None:
            name = self.dataset_name or f"examples-{digest(dict(self._examples))[:16]}"
            if name in self.hook.send(classifier_projects.list_datasets(self.project)):
                self.log.info(
                    "Project %s has the dataset %s already; it is not added again.", self.project, name
                )
            else:
                self.hook.send(
                    classifiers.add(project_name=self.project, dataset_name=name, data=self._examples)
                )
                self.log.info("Added the dataset %s to project %s.", name, self.project)
        return classifiers.train(name=self.project)

    def find(self, submission: Submission) -> str | OrphanSearch:
        """Look for the job in the project's list; see :class:`SingleJobOperator`."""
        if submission.before is None:
            return OrphanSearch.NOT_STARTED  # that is noted before the job is started
        new = [job for job in self._jobs() if job not in submission.before]
        if not new:
            time.sleep(self.list_delay)
            new = [job for job in self._jobs() if job not in submission.before]
        if not new:
            return OrphanSearch.NOT_STARTED
        return new[0] if len(new) == 1 else OrphanSearch.UNKNOWN

    def _jobs(self) -> list[str]:
        """The ids of the project's jobs."""
        from airflow_provider_lamini.api.errors import NotFoundError, ProjectNotFoundError
        from airflow_provider_lamini.platforms.lamini.api import classifier_projects

        try:
            jobs = self.hook.send(classifier_projects.list_jobs(self.project))
        except (NotFoundError, ProjectNotFoundError):
            return []
        return list(dict.fromkeys(job.job_id for job in jobs))  # a list may name a job twice

    def fetch(self, job_id: str, status: EndedJob | JobStatus) -> dict[str, object]:
        """See :class:`SingleJobOperator`: ask for the id of the model."""
        model_id = self._model_of(job_id)
        self.log.info("Classifier %s is trained.", model_id)
        return {**self.result_without_waiting(job_id), "model_id": model_id, "status": status.raw}

    def _model_of(self, job_id: str) -> str:
        from airflow_provider_lamini.platforms.lamini.api import classifier_projects, classifiers

        told = self.hook.send(classifiers.status(job_id)).model_id
        if told is not None:
            return told
        models = self.hook.send(classifier_projects.list_models(self.project))
        made = list(dict.fromkeys(model.model_id for model in models if model.job_id == job_id))
        if len(made) != 1:
            raise JobFailedError(
                f"{self.kind.title} job {job_id} ended well, but the platform tells no model of it. It no longer runs. "
                f"Look at the models of project {self.project!r}; a retry asks again."
            )
        return made[0]

    def result_without_waiting(self, job_id: str) -> dict[str, object]:
        """See :class:`SingleJobOperator`."""
        known = self._records.read()
        return {"project": self.project, "job_id": job_id, **(known.numbers if known else {})}
