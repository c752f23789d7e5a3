"""Durable execution on DBOS (https://docs.dbos.dev), embedded on SQLite, behind `course.Durable`.

Only the one conductor may start an engine, and only under its lock: DBOS recovers pending work when it starts,
and a second engine on the same state would carry out living steps again. Others send orders with `send`.
Importing this module costs about a second; the commands that only read do without it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from dbos import DBOS, DBOSClient, DBOSConfig, Queue, SetWorkflowID
from dbos._serialization import Serializer

from safepoint.launch.course import Durable

# Recovery compares this with the version that began the work. It changes when a course or a work's arguments
# change their shape, so that a newer Safepoint does not continue an older one's launch on wrong assumptions.
COURSE_VERSION = "safepoint-course-3"

_TOPIC = "orders"
_RECOVERY_SECONDS = 0.1
# Once a course is at work nothing comes through that queue any more. A migration may share the processors with us: what
# is asked without need makes the window longer (2 % of a migration on one core with two threads).
_RECOVERED_SECONDS = 10.0

Works = Mapping[str, Callable[..., Any]]
Courses = Mapping[str, Callable[..., str]]
Broken = Callable[[Exception], NoReturn]


class JsonSerializer(Serializer):
    """State as JSON: readable by a person with `sqlite3`, and never an unpickled object."""

    def serialize(self, data: Any) -> str:
        """To JSON; an exception (there should be none) as its text."""
        return json.dumps(data, default=repr)

    def deserialize(self, serialized_data: str) -> Any:
        """From JSON."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """The name by which DBOS records the format."""
        return "safepoint_json"


class _Running:
    """The engine of this process. DBOS keeps its functions in a registry of the process, so there is one."""

    works: ClassVar[Works] = {}
    courses: ClassVar[Courses] = {}
    broken: ClassVar[Broken | None] = None
    at_work: ClassVar[threading.Event] = threading.Event()
    recovery: ClassVar[Queue | None] = None

    @classmethod
    @contextmanager
    def working(cls) -> Iterator[None]:
        """While a course is at work in this process."""
        cls.at_work.set()
        if cls.recovery is not None:
            cls.recovery._polling_interval_sec = _RECOVERED_SECONDS
        try:
            yield
        finally:
            cls.at_work.clear()


@DBOS.step(name="perform")
def _perform(work: str, arguments: list[Any]) -> Any:
    return _Running.works[work](*arguments)


# However often it is gone on with: by itself the engine gives a course up for ever after a hundred times. A conductor
# under a service manager comes to that in minutes, while a person is awaited, or a disk is full.
@DBOS.workflow(name="course", max_recovery_attempts=None)
def _course(name: str, arguments: list[Any]) -> str:
    with _Running.working():
        return _Running.courses[name](_DbosDurable(), *arguments)


class _DbosDurable(Durable):
    def perform(self, work: str, *arguments: Any) -> Any:
        return _recorded(lambda: _perform(work, list(arguments)))

    def receive(self, timeout: float) -> dict[str, Any] | None:
        order: dict[str, Any] | None = _recorded(lambda: DBOS.recv(topic=_TOPIC, timeout_seconds=timeout))
        return order


def _recorded(call: Callable[[], Any]) -> Any:
    """A call of the engine, which may not be able to write its own state (a full disk).

    The error must not reach the course: the engine would record it as the course's end, for ever.
    """
    try:
        return call()
    except Exception as error:
        if _Running.broken is None:
            raise
        _Running.broken(error)


_STATE = "engine.sqlite"


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / _STATE}"


class Engine:
    """The durable engine of one launch, its state in `folder`. A context: DBOS runs between enter and exit."""

    def __init__(self, folder: Path, works: Works, courses: Courses, *, broken: Broken | None = None) -> None:
        """`broken` is told an error of the engine itself, and never returns: this process is at its end."""
        self._folder = folder
        _Running.works, _Running.courses, _Running.broken = works, courses, broken

    def __enter__(self) -> Engine:
        self._folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        config: DBOSConfig = {
            "name": "safepoint",
            "system_database_url": _url(self._folder),
            "application_version": COURSE_VERSION,
            "executor_id": "conductor",
            # What goes wrong is told by us, once; the engine would print tracebacks between a person's lines.
            "log_level": "CRITICAL",
            "console_log_level": "CRITICAL",
            "serializer": JsonSerializer(),
            "notification_listener_polling_interval_sec": 0.05,
            "use_listen_notify": False,
            "max_executor_threads": 8,
        }
        recovery = DBOS(config=config)._registry.get_internal_queue()
        # What a dead conductor left pending goes through this queue, which is looked into once a second unless told
        # otherwise, and DBOS has no setting for it: but the site may be closed meanwhile.
        recovery._polling_interval_sec = _RECOVERY_SECONDS
        _Running.recovery = recovery
        DBOS.launch()
        return self

    def __exit__(self, *_exc: object) -> None:
        DBOS.destroy()

    def start(self, workflow_id: str, course: str, *arguments: Any) -> None:
        """Begin a course, or do nothing where this id has begun already: recovery continues it by itself."""
        if DBOS.get_workflow_status(workflow_id) is not None:
            return
        with SetWorkflowID(workflow_id):
            DBOS.start_workflow(_course, course, list(arguments))

    def pending(self) -> list[str]:
        """The ids of the courses that were begun and have not ended."""
        return [w.workflow_id for w in DBOS.list_workflows(status="PENDING", name="course")]

    def ended(self, workflow_id: str) -> str | None:
        """DBOS's own word on how a course ended (`SUCCESS`, `ERROR`, ...), or None while it runs."""
        if _Running.at_work.is_set():
            return None
        status = DBOS.get_workflow_status(workflow_id)
        return None if status is None or status.status in ("PENDING", "ENQUEUED") else str(status.status)

    def send(self, workflow_id: str, order: Mapping[str, Any]) -> None:
        """Give an order to a course of this engine."""
        DBOS.send(workflow_id, dict(order), topic=_TOPIC, idempotency_key=str(order["id"]))


def begun_by(folder: Path, workflow_id: str) -> str | None:
    """The version of the courses by which a course was begun; only one of that version is ever recovered.

    None where it was not begun in the engine: its run is in the ledger a moment before, or the engine's state is lost.
    """
    if not (folder / _STATE).exists():
        return None
    client = DBOSClient(system_database_url=_url(folder), serializer=JsonSerializer())
    try:
        found = client.list_workflows(workflow_ids=[workflow_id])
        return str(found[0].app_version) if found else None
    finally:
        client.destroy()


def send(folder: Path, workflow_id: str, order: Mapping[str, Any]) -> None:
    """Give an order to a course from any process; it is durable even when no conductor lives."""
    client = DBOSClient(system_database_url=_url(folder), serializer=JsonSerializer())
    try:
        client.send(workflow_id, dict(order), topic=_TOPIC, idempotency_key=str(order["id"]))
    finally:
        client.destroy()
