"""Training jobs of a project: SFT and GRPO, with their checkpoints."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from airflow_provider_lamini.local.emissary import views
from airflow_provider_lamini.local.emissary.resources import Checkpoint
from airflow_provider_lamini.local.emissary.routes.downloads import checkpoint_url
from airflow_provider_lamini.local.emissary.training_requests import to_spec
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response
from airflow_provider_lamini.platforms.emissary.api.training import GRPORequest, SFTRequest

router = APIRouter(prefix="/v1/projects/{project_id}/training-jobs")


@router.post("", operation_id="createTrainingJob", status_code=201)
def create(project_id: str, body: SFTRequest, platform: PlatformDep) -> Response:
    """Start supervised fine-tuning."""
    return _start(platform, project_id, body)


@router.post("/grpo", operation_id="createGRPOTrainingJob", status_code=201)
def create_grpo(project_id: str, body: GRPORequest, platform: PlatformDep) -> Response:
    """Start to train for a reward."""
    return _start(platform, project_id, body)


def _start(platform: LocalPlatform, project_id: str, body: SFTRequest | GRPORequest) -> Response:
    spec = to_spec(platform, platform.emissary.project(project_id), body)
    job = platform.emissary.start_training(spec)
    return json_response(views.training_job(platform.emissary, job), 201)


@router.get("", operation_id="listTrainingJobs")
def list_jobs(project_id: str, platform: PlatformDep) -> Response:
    """List the training jobs of a project."""
    project = platform.emissary.project(project_id)
    jobs = platform.emissary.training_jobs(project.id)
    return json_response([views.training_job(platform.emissary, job) for job in jobs])


@router.get("/{training_job_id}", operation_id="retrieveTrainingJobById")
def get(project_id: str, training_job_id: str, platform: PlatformDep) -> Response:
    """Return a training job with its loss curve."""
    job = platform.emissary.training_job(project_id, training_job_id)
    return json_response(views.training_job_detail(platform.emissary, job))


@router.delete("/{training_job_id}", operation_id="deleteTrainingJobById", status_code=204)
def delete(project_id: str, training_job_id: str, platform: PlatformDep) -> Response:
    """Cancel a training job, and delete it with its checkpoints."""
    platform.emissary.delete_training_job(platform.emissary.training_job(project_id, training_job_id))
    return Response(status_code=204)


@router.post("/{training_job_id}/cancel", operation_id="cancelTrainingJobById", status_code=204)
def cancel(project_id: str, training_job_id: str, platform: PlatformDep) -> Response:
    """Cancel a training job. One that has already ended does not change."""
    platform.emissary.cancel_training_job(platform.emissary.training_job(project_id, training_job_id))
    return Response(status_code=204)


@router.get("/{training_job_id}/checkpoints", operation_id="listCheckpoints")
def list_checkpoints(
    project_id: str, training_job_id: str, platform: PlatformDep, request: Request
) -> Response:
    """List the checkpoints of a training job with their test results."""
    job = platform.emissary.training_job(project_id, training_job_id)
    checkpoints = platform.emissary.resources.all(Checkpoint, job.id)
    return json_response(
        [views.checkpoint(item, checkpoint_url(platform, request, item)) for item in checkpoints]
    )
