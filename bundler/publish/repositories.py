"""Repositories of a registry that wants them made before an image comes, such as Amazon ECR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bundler.events import Emit, Finished, Started
from bundler.publish.plan import Kind, State, Step
from bundler.stores.base import MissingRepository, Repositories


def plan_repositories(
    repositories: Repositories, names: Sequence[str], host: str
) -> Iterator[Step]:
    """Say for each repository whether it is there, will come by itself, or is to be made.

    Args:
        repositories: Those of the registry.
        names: As images have them, below the path of the registry; one may stand there twice.
        host: What to call the registry, with its path.

    Yields:
        A step for each name, under that name, in the order given.

    Raises:
        DeniedError, WorldError: The registry does not say.
    """
    wanted = tuple(dict.fromkeys(names))
    missing = {each.name: each for each in repositories.missing(wanted)}
    for name in wanted:
        yield _step(name, missing.get(name), f"{host}/{name}")


def create_repositories(repositories: Repositories, steps: Iterable[Step], emit: Emit) -> None:
    """Make the repositories that a plan says are to do, one after the other.

    Raises:
        DeniedError: We may not; the hint has the permission, and the command for who may.
        WorldError: The registry fails, or has as many as it may.
    """
    for step in steps:
        if step.kind is Kind.REPOSITORY and step.state is State.TO_DO:
            item = f"repository {step.name}"
            emit(Started("create", item))
            made = repositories.create(step.name)
            emit(Finished(item, skipped=not made))


def _step(name: str, missing: MissingRepository | None, place: str) -> Step:
    state, command = State.TO_DO, ""
    if missing is None or missing.on_push:
        state = State.PRESENT
    elif missing.command:
        state, command = State.CONFLICT, missing.command
    return Step(
        kind=Kind.REPOSITORY,
        name=name,
        state=state,
        detail=missing.detail if missing else "",
        place=place,
        command=command,
    )
