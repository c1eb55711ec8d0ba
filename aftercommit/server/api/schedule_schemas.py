"""What goes in and out over HTTP of schedules."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self
from uuid import UUID

from fastapi import Path
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from aftercommit.core.schedules import CatchUp, Overlap, Policy, RunKind, RunOutcome, Timing
from aftercommit.recurring import (
    LONGEST_CATCH_UP_SECONDS,
    LONGEST_JITTER_SECONDS,
    MOST_CAUGHT_UP,
    NAME_PATTERN,
)
from aftercommit.server.api.schemas import Output
from aftercommit.server.submission.task_input import Input, Moment, TaskTemplate, whole
from aftercommit.ticks import (
    CRON_PATTERN,
    LONGEST_INTERVAL_SECONDS,
    SHORTEST_INTERVAL_SECONDS,
    check_cron,
    check_zone,
)

RUNS_CURSOR_PATTERN: Final = r"^[0-9]{1,17}\.(tick|trigger|backfill)$"
CRON_FORMAT: Final = "cron"
ZONE_FORMAT: Final = "iana-time-zone"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY_SECONDS: Final = 86_400

_CRON_GIVEN: Final[JsonDict] = {"required": ["cron"], "properties": {"cron": {"type": "string"}}}
_ZONE_GIVEN: Final[JsonDict] = {"required": ["zone"], "properties": {"zone": {"type": "string"}}}
_INTERVAL_GIVEN: Final[JsonDict] = {
    "required": ["interval_seconds"],
    "properties": {"interval_seconds": {"type": "number"}},
}
_ONE_TIMING: Final[JsonDict] = {
    "oneOf": [_CRON_GIVEN, _INTERVAL_GIVEN],
    "not": {"allOf": [_INTERVAL_GIVEN, _ZONE_GIVEN]},
}
_EXAMPLE: Final[JsonDict] = {
    "cron": "0 7 * * 1-5",
    "zone": "Europe/Berlin",
    "task": {"type": "report.send", "payload": {"to": "team@example.com"}},
    "overlap": "skip",
}

ScheduleName = Annotated[str, Field(pattern=NAME_PATTERN, examples=["daily-report"])]
NameInPath = Annotated[str, Path(pattern=NAME_PATTERN, examples=["daily-report"])]
CronLine = Annotated[
    str,
    Field(pattern=CRON_PATTERN, examples=["0 7 * * 1-5"], json_schema_extra={"format": CRON_FORMAT}),
    AfterValidator(check_cron),
]
Zone = Annotated[
    str, Field(examples=["Europe/Berlin"], json_schema_extra={"format": ZONE_FORMAT}), AfterValidator(check_zone)
]


class ScheduleReplaceIn(Input):
    """What a schedule is to be: a cron line or an interval, and the task of its ticks."""

    model_config = ConfigDict(json_schema_extra={**_ONE_TIMING, "examples": [_EXAMPLE]})

    cron: CronLine | None = Field(default=None, description="Five fields, or six with the seconds first")
    interval_seconds: (
        Annotated[float, Field(ge=SHORTEST_INTERVAL_SECONDS, le=LONGEST_INTERVAL_SECONDS, examples=[30])] | None
    ) = Field(default=None, description="Instead of cron; counted from 1970-01-01T00:00Z")
    zone: Zone | None = Field(default=None, description="IANA time zone of the cron line; null: UTC")
    jitter_seconds: Annotated[float, Field(ge=0, le=LONGEST_JITTER_SECONDS)] = Field(
        default=0, description="Each tick is due later by less than this, always by the same"
    )
    task: TaskTemplate
    catch_up: Annotated[CatchUp, Field(strict=False)] = Field(
        default=CatchUp.ONE, description="What becomes of ticks that were missed by more than 10 s"
    )
    catch_up_max: Annotated[int, Field(ge=1, le=MOST_CAUGHT_UP), BeforeValidator(whole)] = Field(
        default=100, description="The most tasks of catch_up: all"
    )
    catch_up_seconds: Annotated[float, Field(ge=0, le=LONGEST_CATCH_UP_SECONDS)] = Field(
        default=_DAY_SECONDS, description="Missed ticks that are older are skipped"
    )
    overlap: Annotated[Overlap, Field(strict=False)] = Field(
        default=Overlap.ALLOW, description="What a tick does while the latest task has not ended"
    )

    @field_validator("interval_seconds")
    @classmethod
    def _one_timing(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("cron") is not None:
            raise ValueError("stands beside cron: give one of them")
        return value

    @field_validator("zone")
    @classmethod
    def _zone_of_cron(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("interval_seconds") is not None:
            raise ValueError("stands beside interval_seconds: only cron has a zone")
        return value

    @model_validator(mode="after")
    def _some_timing(self) -> Self:
        if self.cron is None and self.interval_seconds is None:
            raise ValueError("give cron or interval_seconds")
        return self

    @property
    def timing(self) -> Timing:
        return Timing(
            cron=self.cron,
            zone=self.zone or "UTC" if self.cron is not None else None,
            interval_seconds=self.interval_seconds,
            jitter_seconds=self.jitter_seconds,
        )

    @property
    def policy(self) -> Policy:
        return Policy(
            catch_up=self.catch_up,
            catch_up_max=self.catch_up_max,
            catch_up_seconds=self.catch_up_seconds,
            overlap=self.overlap,
        )


class ScheduleIn(ScheduleReplaceIn):
    """A schedule to create."""

    model_config = ConfigDict(json_schema_extra={**_ONE_TIMING, "examples": [{"name": "daily-report", **_EXAMPLE}]})

    name: ScheduleName


class BackfillIn(Input):
    """Which ticks are to have a task: those at or after ``from`` and before ``to``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z"}]}
    )

    since: Moment = Field(alias="from")
    before: Moment = Field(alias="to")


class ScheduleOut(Output):
    """A schedule as it stands now."""

    name: str = Field(examples=["daily-report"])
    cron: str | None = Field(examples=["0 7 * * 1-5"])
    zone: str | None = Field(examples=["Europe/Berlin"])
    interval_seconds: float | None
    jitter_seconds: float
    task: dict[str, Any] = Field(description="As it was given; what was left out has its default at each tick")
    catch_up: CatchUp
    catch_up_max: int
    catch_up_seconds: float
    overlap: Overlap
    paused: bool
    declared_in: str | None = Field(
        description="The module whose handler declares it; null: the API made or changed it"
    )
    declared_by: str | None = Field(description="The worker that declared it last")
    next_tick: datetime | None = Field(description="The next tick that is not decided; null: there is none")
    next_due_at: datetime | None = Field(description="The next tick with its jitter")
    buffered_tick: datetime | None = Field(description="The tick that waits for the end of the latest task")
    latest_task_id: UUID | None = Field(description="The last task that one of its ticks made")
    created_at: datetime
    updated_at: datetime


class SchedulesOut(Output):
    schedules: list[ScheduleOut]
    next_cursor: str | None = Field(description="For the next page; null on the last")


class RunOut(Output):
    """An entry of the account: what became of a tick."""

    tick: datetime = Field(examples=["2026-06-01T05:00:00Z"])
    first_tick: datetime = Field(description="The first of the ticks that it stands for; mostly the tick itself")
    folded: int = Field(description="How many earlier ticks it stands for", examples=[0])
    kind: RunKind
    outcome: RunOutcome
    reason: str | None = Field(description="Why it was skipped (paused, missed, overlap) or refused")
    task_id: UUID | None
    due_at: datetime
    decided_at: datetime
    late_seconds: float = Field(description="From due_at to decided_at", examples=[0.02])


class RunsOut(Output):
    runs: list[RunOut] = Field(description="The youngest ticks first")
    next_cursor: str | None = Field(description="For the next page; null on the last")


class BackfilledOut(Output):
    created: int = Field(description="Tasks that were made", examples=[7])
    task_ids: list[UUID] = Field(description="In the order of their ticks")
    next_from: datetime | None = Field(description="Where to go on; null: the range is done")


class SchedulesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: ScheduleName | None = Field(default=None, description="next_cursor of the page before")
    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class RunsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: Annotated[str, Field(pattern=RUNS_CURSOR_PATTERN)] | None = Field(
        default=None, description="next_cursor of the page before"
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = 50

    @property
    def before(self) -> tuple[datetime, str] | None:
        if self.cursor is None:
            return None
        microseconds, _, kind = self.cursor.partition(".")
        return _EPOCH + _MICROSECOND * int(microseconds), kind


def runs_cursor(run: RunOut) -> str:
    """The cursor of the page that begins after ``run``."""
    return f"{(run.tick - _EPOCH) // _MICROSECOND}.{run.kind}"
