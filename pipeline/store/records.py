"""What the JSON files of a study hold, checked as they are read: one line for what somebody else has changed.

Only what readers lean on is required: stores of earlier versions lack the newer fields, and later ones may have more.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tangentscope.pipeline.store.files import Storage
from tangentscope.pipeline.system.errors import UserError

_Id = Annotated[str, Field(pattern=r"^[^/\\]+$")]  # part of a file's name
_Steps = list[Annotated[int, Field(ge=0)]]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Named(_Record):
    name: str


class _Config(_Record):
    task: _Named
    model: _Named


class _Further(_Record):
    probe: _Id
    variables: list[str]
    steps: _Steps


class _Probe(_Record):
    probe: _Id
    split: str
    outputs: str
    draws: int
    size: int
    variables: list[str]


class _Data(_Record):
    source: str = ""


class _Run(_Record):
    run: _Id
    name: str
    seed: int
    varied: dict[str, Any]
    config: _Config
    steps: int
    epoch_steps: Annotated[int, Field(ge=1)]
    schedule: _Steps
    snapshots: _Steps = []
    evaluations: _Steps = []
    probes: list[str] = []
    further: list[_Further] = []
    layers: list[str] = []
    data: _Data = _Data()


class _Plan(_Record):
    study: str
    schema_: int = Field(default=1, alias="schema")
    launch: int = 0
    keep: Literal["all", "ends", "none"] = "all"
    varied: list[str]
    runs: list[_Run]
    probes: list[_Probe] = []
    further: list[_Probe] = []
    versions: dict[str, int] = {}
    compares: dict[str, list[str]] = {}
    retried: dict[str, int] = {}
    retried_at: dict[str, float] = {}
    report: dict[str, Any] | None = None


class _Outcome(_Record):
    state: Literal["finished", "failed", "stopped"]
    cause: str | None = None
    started_at: float | None = None
    ended_at: float
    seconds: float | None = None

    @model_validator(mode="after")
    def _caused(self) -> "_Outcome":
        if self.state == "failed" and "cause" not in self.model_fields_set:
            raise ValueError("a failed run has a cause")
        return self


class _Machine(_Record):
    memory_bytes: float = 0
    gpus: list[str] = []


class _Repository(_Record):
    root: str
    commit: str | None
    dirty: bool | None


class _Provenance(_Record):
    versions: dict[str, str] = {}
    repository: _Repository | None = None
    machine: _Machine | None = None
    started_at: float | None = None
    data: dict[str, str] | None = None


class _Claim(_Record):
    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    started: float | None = None  # older ones say `created` instead
    at: float


class _Beat(_Record):
    at: float


class _Attempt(_Record):
    attempt: int = 0
    launch: int = 0
    start: int = 0
    resumed_at: int = 0
    started_at: float = 0


class _Rank(_Record):
    at: float
    rank: int
    cause: str | None = None


class _Asked(_Record):
    probe: _Probe
    run: _Id
    steps: _Steps
    source: str | None = None
    number: int = 0
    asked_at: float


class _Replay(_Record):
    after_step: int


class _Dealt(_Record):
    count: int
    held: dict[str, int]


Kind = Literal["plan", "outcome", "provenance", "claim", "beat", "attempt", "rank", "asked", "replay", "dealt"]

_ABSENT = object()
_IDLE = "remove it if nobody runs the study"
# The shape of each kind of file, and what to do about one that is damaged.
_KINDS: dict[Kind, tuple[type[_Record], str]] = {
    "plan": (_Plan, "remove it and `run` the study again, which writes it anew"),
    "outcome": (_Outcome, "remove it and `run` the study again, which takes the run up from its checkpoint"),
    "provenance": (_Provenance, "remove it; the next `run` writes it anew"),
    "claim": (_Claim, _IDLE),
    "beat": (_Beat, _IDLE),
    "attempt": (_Attempt, _IDLE),
    "rank": (_Rank, _IDLE),
    "asked": (_Asked, "remove it and ask for it again with `probe`"),
    "replay": (_Replay, "restore it from a copy, or remove the folder of its run, which is then trained anew"),
    "dealt": (_Dealt, _IDLE),
}


def read(storage: Storage, name: str, kind: Kind, default: Any = None) -> Any:
    """The value of a JSON file, or the default if there is none.

    Raises:
        UserError: It is damaged, or not what a file of its kind holds.
    """
    value = storage.read_json(name, _ABSENT)
    if value is _ABSENT:
        return default
    shape, mend = _KINDS[kind]
    try:
        shape.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{storage.path(name)}: damaged ({_explain(error)}); {mend}") from None
    return value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "missing":
        return f"it has no {'.'.join(map(str, first['loc']))}"
    place = "".join(f"{part}." for part in first["loc"])[:-1]
    got = repr(first["input"])
    expected = "a mapping" if first["type"].startswith("model_") else f"{first['msg'][0].lower()}{first['msg'][1:]}"
    return f"{place or 'it'}: got {got if len(got) < 60 else f'{got[:57]}…'}, expected: {expected}"
