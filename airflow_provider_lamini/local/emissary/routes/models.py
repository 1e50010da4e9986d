"""Base models and test functions."""

from fastapi import APIRouter
from starlette.responses import Response

from airflow_provider_lamini.local.emissary import views
from airflow_provider_lamini.local.errors import ObjectNotFoundError
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response
from airflow_provider_lamini.local.test_functions import TEST_FUNCTIONS, source

router = APIRouter(prefix="/v1")


@router.get("/models", operation_id="listBaseModels")
def list_models(platform: PlatformDep) -> Response:
    """List the base models."""
    return json_response([views.base_model(model) for model in platform.emissary.base_models()])


@router.get("/models/{base_model_name:path}", operation_id="retrieveBaseModelByName")
def get_model(base_model_name: str, platform: PlatformDep) -> Response:
    """Return a base model."""
    model = platform.emissary.base_model(base_model_name)
    if model is None:
        raise ObjectNotFoundError("base model", base_model_name)
    return json_response(views.base_model(model))


@router.get("/testing-functions", operation_id="listTestFunctions")
def list_test_functions() -> Response:
    """List the test functions with their source code."""
    return json_response(
        [{"name": name, "content": source(name), "dependencies": []} for name in TEST_FUNCTIONS]
    )
