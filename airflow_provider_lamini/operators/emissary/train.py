"""Training: supervised fine-tuning (SFT), and reinforcement learning with rewards (GRPO)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import ResultsLink
from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.rows.numbers import finite
from airflow_provider_lamini.runs.arguments import (
    folder,
    identifier,
    json_object,
    name_list,
    optional_name,
    plain_name,
    shown,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.runs.emissary.training import TrainingRequest
    from airflow_provider_lamini.runs.submitted_job import SubmittedJob
    from airflow_provider_lamini.runs.task import TaskRun

COMMON_FIELDS = (
    *JobOperator.template_fields,
    "emissary_conn_id",
    "project_id",
    "base_model",
    "dataset_id",
    "base_model_option",
    "checkpoint",
    "test_dataset_id",
    "train_test_split_ratio",
    "test_functions",
    "name",
    "description",
    "model_task",
    "parameters",
    "hf_model_link",
    "output_folder",
    "output_conn_id",
)


@reports_lineage(
    "emissary",
    uses={"base_model": "models", "dataset_id": "datasets", "test_dataset_id": "datasets"},
    makes={"training_job_id": "models"},
)
class EmissaryTrainOperator(JobOperator):
    """Fine-tunes a model on a dataset (SFT), waits, and returns the job.

    While the task waits, the log shows the progress in percent and the loss. A retry finds the job of a try that died: by
    its recorded id, else in the project's list by name.

    Endpoints: ``POST /v1/projects/{project_id}/training-jobs``; the job's status from the project's list and from
    ``GET /v1/projects/{project_id}/training-jobs/{training_job_id}``.

    :param project_id: the project
    :param base_model: a base model; with ``base_model_option="fine-tuned"`` the name of a training job
    :param dataset_id: the dataset to learn from, as :class:`EmissaryUploadDatasetOperator` returned it
    :param base_model_option: ``pre-trained`` (the platform's default), or ``fine-tuned`` to continue from a checkpoint
    :param checkpoint: with ``fine-tuned``: the number of the checkpoint
    :param test_dataset_id: a dataset to test checkpoints on
    :param train_test_split_ratio: percent of the dataset to test on instead: 20 means 20%
    :param test_functions: names of test functions that score each checkpoint. They must be in the platform's list, which
        is read before the submission.
    :param name: a name for the job. If several tasks use the same one at the same time, a retry cannot always tell their
        jobs apart after a lost answer. Default: one that no other job has.
    :param description: a text about the job
    :param model_task: ``text-generation`` (the platform's default), ``classification``, ``embedding`` or ``regression``
    :param parameters: how to train, such as ``{"num_train_epochs": 3, "learning_rate": 2e-4}``. Known ones are checked;
        unknown ones are passed on.
    :param rebalance_data: for ``classification``: label to share or number of its examples
    :param hf_model_link: link to a model of a hub
    :param output: a folder for ``loss_history.jsonl``, one line per point of the loss curve. Before the submission, the
        task writes a small file there to check that it can. With ``wait=False`` nothing is written. A folder that another
        task has taken is refused: choose another one, or remove its ``_reserved-*.json`` if the Dag or the task was renamed
        or moved into a TaskGroup.
    :param emissary_conn_id: the connection to the platform
    :param output_conn_id: the connection for the output's object storage
    :return: ``job_id`` (for ``EmissaryJobSensor``), ``project_id``, ``training_job_id``, ``base_model``, ``status``,
        ``name``, ``final_loss`` and ``history`` (the file). With ``wait=False`` only the first four.
    """

    operator_extra_links = (ResultsLink(),)

    template_fields: Sequence[str] = (*COMMON_FIELDS, "rebalance_data")
    template_fields_renderers = {"parameters": "json", "rebalance_data": "json"}  # noqa: RUF012 - as Airflow declares it

    list_delay: ClassVar[float] = 20.0
    """Seconds until a job that was just submitted is in the platform's list."""

    def __init__(
        self,
        *,
        project_id: str,
        base_model: str,
        dataset_id: str,
        base_model_option: str | None = None,
        checkpoint: int | str | None = None,
        test_dataset_id: str | None = None,
        train_test_split_ratio: float | str | None = None,
        test_functions: Sequence[str] | None = None,
        name: str | None = None,
        description: str | None = None,
        model_task: str | None = None,
        parameters: Mapping[str, Json] | str | None = None,
        rebalance_data: Mapping[str, float] | str | None = None,
        hf_model_link: str | None = None,
        output: str | None = None,
        emissary_conn_id: str = "emissary_default",
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project_id = project_id
        self.base_model = base_model
        self.dataset_id = dataset_id
        self.base_model_option = base_model_option
        self.checkpoint = checkpoint
        self.test_dataset_id = test_dataset_id
        self.train_test_split_ratio = train_test_split_ratio
        self.test_functions = test_functions
        self.name = name
        self.description = description
        self.model_task = model_task
        self.parameters = parameters
        self.rebalance_data = rebalance_data
        self.hf_model_link = hf_model_link
        self.output_folder = output  # an operator's own ``output`` is its XCom
        self.emissary_conn_id = emissary_conn_id
        self.output_conn_id = output_conn_id

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        return emissary_hook(self.emissary_conn_id)

    def work(self, task: TaskRun) -> SubmittedJob[dict[str, object]]:
        """Validate the arguments, then return the job."""
        from airflow_provider_lamini.runs.emissary.training import Training
        from airflow_provider_lamini.runs.submitted_job import SubmittedJob

        options = self.submission_options()
        rebalance = json_object("rebalance_data", self.rebalance_data)
        request = training_request(self, "SFT", {"rebalance_data": rebalance}, wait=options.wait)
        return SubmittedJob(task, Training(task, request), options)


@reports_lineage(
    "emissary",
    uses={"base_model": "models", "dataset_id": "datasets", "test_dataset_id": "datasets"},
    makes={"training_job_id": "models"},
)
class EmissaryGRPOTrainOperator(JobOperator):
    """Trains a model with rewards (GRPO), waits, and returns the job.

    Test functions score the model's outputs; ``reward`` weights their scores. Everything else is as with
    :class:`EmissaryTrainOperator`.

    Endpoints: ``POST /v1/projects/{project_id}/training-jobs/grpo``; the job's status from the project's list and from
    ``GET /v1/projects/{project_id}/training-jobs/{training_job_id}``.

    :param project_id: the project
    :param base_model: a base model; with ``base_model_option="fine-tuned"`` the name of a training job
    :param dataset_id: the dataset with prompts
    :param test_functions: names of the test functions. They must be in the platform's list, which is read before the
        submission.
    :param reward: test function to weight of its score, such as ``{"accuracy": 0.8, "brevity": 0.2}``; only those in
        ``test_functions``
    :param base_model_option: ``pre-trained`` (the platform's default), or ``fine-tuned`` to continue from a checkpoint
    :param checkpoint: with ``fine-tuned``: the number of the checkpoint
    :param test_dataset_id: a dataset to test checkpoints on
    :param train_test_split_ratio: percent of the dataset to test on instead: 20 means 20%
    :param name: a name for the job; default: one that no other job has
    :param description: a text about the job
    :param model_task: ``text-generation`` (the platform's default), ``classification``, ``embedding`` or ``regression``
    :param parameters: how to train, such as ``{"num_generations": 8}``. Known ones are checked; unknown ones are passed
        on.
    :param hf_model_link: link to a model of a hub
    :param output: a folder for ``loss_history.jsonl``, as of :class:`EmissaryTrainOperator`
    :param emissary_conn_id: the connection to the platform
    :param output_conn_id: the connection for the output's object storage
    :return: the same as of :class:`EmissaryTrainOperator`
    """

    operator_extra_links = (ResultsLink(),)

    template_fields: Sequence[str] = (*COMMON_FIELDS, "reward")
    template_fields_renderers = {"parameters": "json", "reward": "json"}  # noqa: RUF012 - as Airflow declares it

    list_delay: ClassVar[float] = 20.0
    """Seconds until a job that was just submitted is in the platform's list."""

    def __init__(
        self,
        *,
        project_id: str,
        base_model: str,
        dataset_id: str,
        test_functions: Sequence[str],
        reward: Mapping[str, float] | str,
        base_model_option: str | None = None,
        checkpoint: int | str | None = None,
        test_dataset_id: str | None = None,
        train_test_split_ratio: float | str | None = None,
        name: str | None = None,
        description: str | None = None,
        model_task: str | None = None,
        parameters: Mapping[str, Json] | str | None = None,
        hf_model_link: str | None = None,
        output: str | None = None,
        emissary_conn_id: str = "emissary_default",
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project_id = project_id
        self.base_model = base_model
        self.dataset_id = dataset_id
        self.test_functions = test_functions
        self.reward = reward
        self.base_model_option = base_model_option
        self.checkpoint = checkpoint
        self.test_dataset_id = test_dataset_id
        self.train_test_split_ratio = train_test_split_ratio
        self.name = name
        self.description = description
        self.model_task = model_task
        self.parameters = parameters
        self.hf_model_link = hf_model_link
        self.output_folder = output  # an operator's own ``output`` is its XCom
        self.emissary_conn_id = emissary_conn_id
        self.output_conn_id = output_conn_id

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        return emissary_hook(self.emissary_conn_id)

    def work(self, task: TaskRun) -> SubmittedJob[dict[str, object]]:
        """Validate the arguments, then return the job."""
        from airflow_provider_lamini.runs.emissary.training import Training
        from airflow_provider_lamini.runs.submitted_job import SubmittedJob

        options = self.submission_options()
        reward = json_object("reward", self.reward)
        request = training_request(self, "GRPO", {"reward": reward}, wait=options.wait)
        return SubmittedJob(task, Training(task, request), options)


def training_request(
    operator: EmissaryTrainOperator | EmissaryGRPOTrainOperator,
    technique: str,
    own: Mapping[str, object],
    *,
    wait: bool,
) -> TrainingRequest:
    """Validate the arguments that both ways of training have, and that they fit together.

    :param operator: the operator, its templates rendered
    :param technique: ``SFT`` or ``GRPO``
    :param own: the validated arguments that only this technique has
    :param wait: whether the task waits for the job; otherwise it writes no losses
    :raises InvalidArgumentError: if an argument is wrong
    """
    from airflow_provider_lamini.runs.emissary.training import TrainingRequest

    optional_name("output_conn_id", operator.output_conn_id)
    if operator.output_folder is not None:
        folder("output", operator.output_folder, operator.output_conn_id)
    checkpoint, ratio, functions = (
        operator.checkpoint,
        operator.train_test_split_ratio,
        operator.test_functions,
    )
    arguments: dict[str, object] = {
        "base_model": plain_name("base_model", operator.base_model),
        "train_dataset_id": identifier("dataset_id", operator.dataset_id),
        "base_model_option": optional_name("base_model_option", operator.base_model_option),
        "checkpoint": None if checkpoint is None else whole_number("checkpoint", checkpoint, minimum=0),
        "test_dataset_id": None
        if operator.test_dataset_id is None
        else identifier("test_dataset_id", operator.test_dataset_id),
        "train_test_split_ratio": None if ratio is None else _percent(ratio),
        "test_functions": None if functions is None else name_list("test_functions", functions),
        "description": optional_name("description", operator.description),
        "task_type": optional_name("model_task", operator.model_task),
        "parameters": json_object("parameters", operator.parameters),
        "hf_model_link": optional_name("hf_model_link", operator.hf_model_link),
        **own,
    }
    request = TrainingRequest(
        project_id=identifier("project_id", operator.project_id),
        technique=technique,
        name=optional_name("name", operator.name),
        arguments=arguments,
        output=operator.output_folder if wait else None,
        output_conn_id=operator.output_conn_id,
        list_delay=operator.list_delay,
    )
    try:
        request.call(request.name)
    except ValueError as error:
        # The platform has another name for the argument.
        raise InvalidArgumentError(str(error).replace("task_type", "model_task")) from None
    return request


def _percent(value: object) -> float:
    """A share in percent, a whole number where it is one."""
    number = finite(value)
    if not 0 < number < 100:  # noqa: PLR2004 - percent
        raise InvalidArgumentError(
            f"train_test_split_ratio must be a percentage above 0 and below 100, such as 20, not {shown(value)}."
        )
    return int(number) if number.is_integer() else number
