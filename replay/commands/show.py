"""`replay show`: what happened."""

from __future__ import annotations

from typing import Any

import click

from recorder.bundle.codec import to_json
from recorder.bundle.custody import custody
from recorder.bundle.manifest import Call, Frame, Manifest, Trigger
from replay.commands.options import bundle_argument, json_option, open_bundle
from replay.show.terminal import print_json, print_line, print_wrapped, shows_blocks, styled
from replay.show.text import inert, inert_markdown, iso, size

__all__ = ["show", "show_json"]


@click.command(short_help="What happened: trigger, frames, models, environment.")
@bundle_argument
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown to paste into a ticket.")
@json_option
def show(bundle: str, as_markdown: bool, as_json: bool) -> None:
    """Show what a bundle recorded: why it was sealed, the frames, models and environment.

    Nothing is run and no model is needed. Example:

    \b
        replay show incidents/…bundle.zst --markdown
    """
    from replay.show.answers import short_answers
    from replay.show.history import history_json, history_section
    from replay.show.story import headline, near_trigger, tell
    from replay.show.table import markdown, print_section

    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        tables = opened.track()
        if as_json:
            print_json({**show_json(opened.id, manifest), "track": history_json(manifest, tables)})
            return
        version = f"{manifest.format_version.major}.{manifest.format_version.minor}"
        facts = f"bundle {opened.id[:12]}, {size(opened.size_bytes)}, format {version}"
        answers = short_answers(opened, near_trigger(manifest))
        if as_markdown:
            safe = {frame: inert_markdown(answer, 60) for frame, answer in answers.items()}
            sections = tell(manifest, safe, inert_markdown)
            history = history_section(manifest, tables, inert_markdown, blocks=True)
            sections[1:1] = [history] if history is not None else []
            print_line(markdown("Incident", f"{headline(manifest, inert_markdown)}\n\n{facts}", sections))
            return
        print_wrapped(headline(manifest, inert))
        print_line(styled(facts, dim=True))
        sections = tell(manifest, answers, inert)
        history = history_section(manifest, tables, inert, blocks=shows_blocks())
        sections[1:1] = [history] if history is not None else []
        for section in sections:
            print_section(section)


def show_json(bundle_id: str, manifest: Manifest) -> dict[str, Any]:
    """Return the contract's JSON form of a bundle."""
    incident = manifest.incident
    calls = {call.id: call for call in manifest.calls}
    triggers = [_trigger(trigger) for trigger in incident.triggers]
    return {
        "bundle": bundle_id,
        "format_version": f"{manifest.format_version.major}.{manifest.format_version.minor}",
        "created": iso(manifest.created_ns),
        "producer": manifest.producer,
        "complete": manifest.complete,
        "custody": [{"bundle": parent.bundle, "operation": parent.operation} for parent in custody(manifest)],
        "incident": incident.id,
        "stream": incident.stream,
        "severity": incident.severity,
        "host": incident.host,
        "trigger": triggers[0] if triggers else None,
        "triggers": triggers,
        "signature": incident.signature,
        "recurrences_since_last": incident.recurrences_since_last,
        "cause": incident.cause.get("cause") if incident.cause else None,
        "diagnosis": incident.cause,
        "models": [
            {
                "name": model.name,
                "digest": model.weights.digest if model.weights else None,
                "type": model.type,
                "stored": bool(model.weights and model.weights.stored),
                "graphs": len(model.graphs),
                "problems": list(model.problems),
            }
            for model in manifest.models
        ],
        "frames": [_frame(frame, calls) for frame in manifest.frames],
        "lost": dict(incident.lost),
        "thinning": None if incident.thinning is None else to_json(incident.thinning),
        "redactions": [to_json(each) for each in manifest.redactions],
    }


def _trigger(trigger: Trigger) -> dict[str, Any]:
    return {
        "kind": trigger.kind,
        "reason": trigger.reason,
        "frame": trigger.frame,
        "time": iso(trigger.time_ns),
        "severity": trigger.severity,
        "value": trigger.value,
        "threshold": trigger.threshold,
    }


def _frame(frame: Frame, calls: dict[int, Call]) -> dict[str, Any]:
    models = [calls[each].model for each in frame.calls if each in calls]
    return {
        "id": frame.id,
        "time": iso(frame.time_ns),
        "metadata": frame.metadata,
        "stream": frame.stream,
        "status": frame.status,
        "latency_seconds": frame.latency_seconds,
        "images": [
            {"name": i.name, "member": i.member, "height": i.height, "width": i.width, "encoding": i.encoding}
            for i in frame.images
        ],
        "calls": list(frame.calls),
        "models": models,
        "exception": None if frame.exception is None else frame.exception.type,
        "lost": dict(frame.lost),
    }
