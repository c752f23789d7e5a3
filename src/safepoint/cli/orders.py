"""Orders to a launch: go, hold, retry, abort, rollback, retire. They work from any terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safepoint.cli.ending import last_words
from safepoint.cli.giving import begun_by_another, give, let_end
from safepoint.cli.launch import PlanOption, conduct, end, refuse_without_launch
from safepoint.cli.saying import echo
from safepoint.cli.standing_plan import standing_plan
from safepoint.errors import ExitCode, Refused

if TYPE_CHECKING:
    from safepoint.config import PlanFile
    from safepoint.launch.ledger import Entry

JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="One line an event instead of a live view.")]


def go(
    gate: Annotated[
        str | None, typer.Argument(help="The gate (stop, canary, green), when you want to name it.")
    ] = None,
    plan: PlanOption = Path("launch.toml"),
    json_: JsonOption = False,
) -> None:
    """Say go at the open gate, or let a held launch go on."""
    plan_file = _load(plan)
    question = _open_question(plan_file)
    if question is None or "go" not in question["choices"]:
        raise Refused(
            "No gate is open: there is nothing to say go to.",
            subject=plan_file.launch_id,
            remedy="See `safepoint status`." if question is None else _choices(question),
        )
    if gate is not None and not names(gate, question["step"]):
        raise Refused(
            f"The open question is at {question['step']!r}, not at {gate!r}.",
            subject=gate,
            remedy=f"Read it with `safepoint status`, then `safepoint go {question['step']}`.",
        )
    give(plan_file, "go", json_=json_, **_answered(question))


def names(gate: str, step: str) -> bool:
    """Whether a person means this step: by its id, or by the gate's name in the plan file (`stop`). Pure."""
    return step in (gate, f"gate-{gate}")


def hold(plan: PlanOption = Path("launch.toml"), json_: JsonOption = False) -> None:
    """Stop before the next step and wait for a person. The step that runs is finished."""
    from safepoint.launch.begin import entries_of, status_of

    plan_file = _load(plan)
    entries = entries_of(plan_file)
    if status_of(entries) is None and _of_run(entries, "wayback") is not None:
        raise Refused(
            "The way back is being taken, and is not held between its steps.",
            subject=plan_file.launch_id,
            remedy="See `safepoint status` for what can be ordered meanwhile.",
        )
    give(plan_file, "hold", json_=json_)


def retry(plan: PlanOption = Path("launch.toml"), plain: PlainOption = False, json_: JsonOption = False) -> None:
    """Run the step that failed again."""
    from safepoint.launch.begin import begun_plan, entries_of, status_of

    plan_file = _load(plan)
    status = status_of(entries_of(plan_file))
    if status is None:
        question = _open_question(plan_file)
        if question is None or "retry" not in question["choices"]:
            raise Refused(
                _tried_by_itself(plan_file, question) or "No step waits to be tried again.",
                subject=plan_file.launch_id,
                remedy="See `safepoint status`." if question is None else _choices(question),
            )
        give(plan_file, "retry", json_=json_, **_answered(question))
        return
    the_plan = begun_plan(plan_file)
    if status != "failed" or the_plan is None:
        anew = "`safepoint launch --again` would begin it anew" if status == "aborted" else "see `safepoint report`"
        raise Refused(
            f"The launch {plan_file.launch_id} is over: it was {status}.",
            subject=plan_file.launch_id,
            remedy=f"There is nothing to try again; {anew}.",
        )
    ended = conduct(plan_file, the_plan, "retry", lambda c: c.launch(), plain=plain or json_, quiet=json_)
    end(plan_file, the_plan, ended, json_=json_)


def _tried_by_itself(plan_file: PlanFile, question: dict[str, Any] | None) -> str | None:
    """Whoever had read a question, and was a moment slower than the conductor, learns who has answered it."""
    from safepoint.launch.begin import entries_of
    from safepoint.launch.coming_back import BY

    answers = [entry for entry in entries_of(plan_file) if entry.kind == "order" and entry.data["fate"] == "taken"]
    if question is not None or not answers or answers[-1].data["by"] != BY:
        return None
    at = _clock(plan_file, answers[-1])
    return f"No step waits to be tried again: {BY} has given that order for {answers[-1].step} at {at}."


def abort(plan: PlanOption = Path("launch.toml"), plain: PlainOption = False, json_: JsonOption = False) -> None:
    """End the launch and open the site again: on the old release, with the data of the safe point or newer."""
    _take_back(_load(plan), "abort", plain=plain, json_=json_)


def rollback(
    plan: PlanOption = Path("launch.toml"),
    discard: Annotated[
        bool,
        typer.Option(
            "--discard/--keep-data", help="List what was written since the launch, or carry it back where proven."
        ),
    ] = False,
    stop_first: Annotated[
        bool,
        typer.Option(
            "--stop-first",
            help="Close the site at once, for a release that does harm. Otherwise most is carried back before.",
        ),
    ] = False,
    plain: PlainOption = False,
    json_: JsonOption = False,
) -> None:
    """Bring the old release and its database back, during the launch or after it."""
    _take_back(_load(plan), "rollback", plain=plain, json_=json_, discard=discard, stop_first=stop_first)


def return_(plan: PlanOption = Path("launch.toml"), plain: PlainOption = False, json_: JsonOption = False) -> None:
    """During a rollback, until the old release is open: turn round, and return to the new release and its database."""
    from safepoint.launch.begin import begun_plan, entries_of, status_of
    from safepoint.launch.conductor import make_order
    from safepoint.launch.lock import held, refuse_other

    plan_file = _load(plan)
    entries = entries_of(plan_file)
    taken = _of_run(entries, "wayback")
    if status_of(entries) is not None or taken is None:
        raise Refused(
            "No rollback is under way that could be turned round.",
            subject=plan_file.launch_id,
            remedy="See `safepoint status`.",
        )
    _refuse_return(plan_file, entries, taken)
    refuse_other(plan_file.conductor_lock, plan_file.launch_id)
    if held(plan_file.conductor_lock, plan_file.launch_id):
        if not give(plan_file, "return", json_=json_, interrupts=True):
            return_(plan, plain, json_)  # it says why that cannot be any more
        return
    the_plan = begun_plan(plan_file)
    if the_plan is None:
        raise Refused("The ledger holds no plan.", subject=plan_file.launch_id, remedy="See `safepoint report`.")
    order = make_order("return")
    try:
        ended = conduct(plan_file, the_plan, "return", lambda c: c.rollback(order), plain=plain or json_, quiet=json_)
    except Refused:
        if not begun_by_another(plan_file):
            raise
        return_(plan, plain, json_)
        return
    end(plan_file, the_plan, ended, json_=json_)


def retire(
    plan: PlanOption = Path("launch.toml"),
    now: Annotated[bool, typer.Option("--now", help="Before T+3, too: the way back is not needed any more.")] = False,
    json_: JsonOption = False,
) -> None:
    """After T+3: remove the twin and the capture. There is no way back after this."""
    from safepoint.launch.retire import retire as carry_out
    from safepoint.launch.storage import told

    plan_file = _load(plan)
    try:
        answer = carry_out(plan_file, hurry=now)
    except KeyboardInterrupt:  # a second thought, or a terminal that closed: whether it came in time has to be known
        last_words(plan_file)
        raise
    except OSError as error:  # of its lock, too, which does not lie in the launch's folder
        raise told(error, subject=str(plan_file.state), begun=True) from error
    if json_:
        import json

        echo(json.dumps(answer))
    else:
        for line in answer["done"]:
            echo(line)


def _take_back(plan_file: PlanFile, word: str, *, plain: bool, json_: bool, **details: Any) -> None:
    from safepoint.launch.begin import begun_plan, entries_of, last_reason, refuse_taken_back
    from safepoint.launch.conductor import make_order
    from safepoint.launch.lock import held, refuse_other

    refuse_without_launch(plan_file)
    entries = entries_of(plan_file)
    refuse_taken_back(plan_file, entries, word)
    refuse_other(plan_file.conductor_lock, plan_file.launch_id)
    if held(plan_file.conductor_lock, plan_file.launch_id):
        _refuse_second_way_back(plan_file, entries, closing=bool(details.get("stop_first")))
        about = _answered(_open_question(plan_file))
        if not give(plan_file, word, json_=json_, interrupts=True, **details, **about):
            let_end(plan_file, word)
            _take_back(plan_file, word, plain=plain, json_=json_, **details)
        return
    the_plan = begun_plan(plan_file)
    if the_plan is None:
        raise Refused("The ledger holds no plan.", subject=plan_file.launch_id, remedy="See `safepoint report`.")
    order = make_order(word, **details)
    try:
        ended = conduct(plan_file, the_plan, word, lambda c: c.rollback(order), plain=plain or json_, quiet=json_)
    except Refused:
        if not begun_by_another(plan_file):
            raise
        _take_back(plan_file, word, plain=plain, json_=json_, **details)  # an order to that one, or why it needs none
        return
    taken = ended in ("rolled back", "aborted")
    if json_:
        import json

        answer = {"launch": plan_file.launch_id, "status": ended, "reason": last_reason(plan_file)}
        echo(json.dumps({**answer, "affected": _affected(plan_file)}))
    elif not taken:  # it was turned round
        last_words(plan_file)
    elif (affected := _affected(plan_file)) is not None:
        for line in _told(affected):
            echo(line)
    raise typer.Exit(int(ExitCode.DONE if taken else ExitCode.FAILED))


def _told(affected: dict[str, Any]) -> list[str]:
    """Whom to tell, where anybody lost something; pure."""
    if not affected["users"] and not affected["unknown"]:
        if affected["notes"]:
            return [f"Nobody is known to be affected, but not all can be known: {affected['page']}", *affected["notes"]]
        return [f"Nobody is affected, all that was written was carried back: {affected['page']}"]
    unknown = affected["unknown"]
    nobody = f", and {unknown} {'row leads' if unknown == 1 else 'rows lead'} to no user" if unknown else ""
    users = "1 user is" if affected["users"] == 1 else f"{affected['users']} users are"
    return [
        f"{users} affected{nobody}: {affected['page']}",
        f"A line for each, with the text to send: {affected['letters']}",
    ]


def _affected(plan_file: PlanFile) -> dict[str, Any] | None:
    """Who has to be told, as the rollback found out; None where nothing was written since the launch."""
    from safepoint.launch.begin import entries_of
    from safepoint.launch.report import build

    found: dict[str, Any] | None = (build(entries_of(plan_file))["rollback"] or {}).get("affected")
    return found


def _of_run(entries: list[Entry], kind: str) -> Entry | None:
    """The entry of that kind in the newest run."""
    runs = [entry.data["run"] for entry in entries if entry.kind == "run"]
    return next((e for e in entries if e.kind == kind and runs and e.data["run"] == runs[-1]), None)


def _refuse_return(plan_file: PlanFile, entries: list[Entry], taken: Entry) -> None:
    """An order that would be ignored is not given: it would only end the running step.

    Raises:
        Refused: the rollback is being turned round already, or cannot be any more.
    """
    from safepoint.launch.lock import held
    from safepoint.launch.undo import cannot_return

    turned = _of_run(entries, "wayforth")
    if turned is not None and held(plan_file.conductor_lock, plan_file.launch_id):
        question = _open_question(plan_file)
        raise Refused(
            f"The rollback is being turned round already, since {_clock(plan_file, turned)}.",
            subject=plan_file.launch_id,
            remedy="Watch it with `safepoint status`; it ends with the new release open."
            if question is None
            else _choices(question),
        )
    run = taken.data["run"]
    begun = [str(e.step) for e in entries if e.kind == "step.begun" and e.data["run"] == run]
    why = cannot_return([str(step["id"]) for step in taken.data["steps"]], begun)
    if why is not None:
        raise Refused(
            f"This rollback cannot be turned round: {why}.",
            subject=plan_file.launch_id,
            remedy="See `safepoint status`; it ends with the old release open.",
        )


def _refuse_second_way_back(plan_file: PlanFile, entries: list[Entry], *, closing: bool) -> None:
    """One way back is enough: a second order would only end its running step, which then has to begin again.

    Args:
        closing: it orders that the site be closed at once, which makes sense as long as it is open.
    """
    from safepoint.launch.undo import AHEAD

    taken = _of_run(entries, "wayback")
    if taken is None or _of_run(entries, "wayforth") is not None or _open_question(plan_file) is not None:
        return
    steps = [e.step for e in entries if e.kind == "step.begun" and e.data["run"] == taken.data["run"]]
    still_open = bool(steps) and steps[-1] == AHEAD
    if closing and still_open:
        return
    raise Refused(
        f"The way back is being taken already, since {_clock(plan_file, taken)}: {taken.data['reason']}.",
        subject=plan_file.launch_id,
        remedy="The site is open while what was written is carried; `safepoint rollback --stop-first` closes it now."
        if still_open
        else "Watch it with `safepoint status`; it ends with the old release open.",
    )


def _clock(plan_file: PlanFile, entry: Entry) -> str:
    """When it was, as `status` and the report say it."""
    return f"{entry.when.astimezone(plan_file.launch.timezone):%H:%M:%S}"


def _load(plan: Path) -> PlanFile:
    plan_file = standing_plan(plan)
    refuse_without_launch(plan_file)
    return plan_file


def _open_question(plan_file: PlanFile) -> dict[str, Any] | None:
    from safepoint.launch.begin import entries_of, open_question

    return open_question(entries_of(plan_file))


def _answered(question: dict[str, Any] | None) -> dict[str, Any]:
    """Which question an order is about: given twice it must not answer the next one, too."""
    return {} if question is None else {"gate": question["step"], "attempt": question["attempt"]}


def _choices(question: dict[str, Any]) -> str:
    words = " or ".join(f"`safepoint {word}`" for word in question["choices"])
    return f"The question is: {question['question'].rstrip('.')}. Answer with {words}."
