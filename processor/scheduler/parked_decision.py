"""Decides what follows for parked jobs once no other job is left whose success could show whether they are at fault."""

from __future__ import annotations

from processor.endpoints.endpoint import Endpoint
from processor.health.causes import Cause, CauseKind
from processor.health.parked_jobs import MAX_PARKED_PER_CAUSE, ParkedJob
from processor.scheduler.dependencies import Dependencies

Undecided = tuple[Endpoint, Cause, list[ParkedJob]]


async def decide_parked(deps: Dependencies) -> None:
    """Release the parked jobs of one kind: as at fault where others like them have replies, else without a row.

    Jobs that would be sent again come first: their success may show that jobs of another kind are at fault. Raises
    OutputError. To be called while nothing but parked jobs is open, so that no success comes meanwhile.
    """
    undecided = deps.endpoints.undecided()
    kinds = {cause.kind for _, cause, _ in undecided}
    kind = CauseKind.NOT_UNDERSTOOD if CauseKind.NOT_UNDERSTOOD in kinds else undecided[0][1].kind
    alike = [one for one in undecided if one[1].kind is kind]
    are_few = sum(len(parked) for _, _, parked in alike) < MAX_PARKED_PER_CAUSE
    at_fault = [are_few and await _is_known_to_answer(one, deps) for one in alike]
    for (endpoint, cause, _), is_at_fault in zip(alike, at_fault, strict=True):
        if is_at_fault:
            endpoint.health.parked.release(cause, at_fault=True)
        else:
            endpoint.health.leave_parked(cause)


async def _is_known_to_answer(undecided: Undecided, deps: Dependencies) -> bool:
    """Whether rows of earlier runs have replies of this endpoint to the path and model of each of these jobs.

    Where the jobs are only sent again, replies of this run are enough: a stream may break off once.
    """
    endpoint, cause, parked = undecided
    if cause.kind is CauseKind.LONG_WAIT:
        return False
    if cause.kind is CauseKind.NOT_UNDERSTOOD and endpoint.health.has_succeeded:
        return True
    for path, model in dict.fromkeys((one.job.path, one.job.model) for one in parked):
        address = endpoint.address_of(path, model)
        if not (deps.has_replied(address, model) or await deps.sink.has_earlier_reply(address, model)):
            return False
    return True
