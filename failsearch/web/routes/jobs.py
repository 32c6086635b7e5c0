"""What runs behind the pages: the job, how to stop it, and the model."""

from typing import Any

from fastapi import APIRouter

from .common import App

router = APIRouter()


@router.get("/api/job")
def job(state: App) -> dict[str, Any]:
    """Return the job that runs, or the last one; `job` is null where there never was one."""
    current = state.jobs.current
    return {"job": None if current is None else current.to_json()}


@router.post("/api/job/stop")
def stop(state: App) -> dict[str, Any]:
    """Ask the running job to end at its next step."""
    current = state.jobs.stop()
    return {"job": None if current is None else current.to_json()}


@router.post("/api/model")
def load_model(state: App) -> dict[str, Any]:
    """Load the model where it is not yet, and answer when it is there."""
    state.models.load()
    return {"model": state.index.manifest.model["weights_digest"]}
