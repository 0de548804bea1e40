"""`replay ticket`: an incident on a ticket, or what to paste into one."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from replay.commands.options import bundle_argument, json_option, open_bundle
from replay.commands.types import Number
from replay.show.terminal import print_json, print_line, print_note, styled

if TYPE_CHECKING:
    from recorder.bundle.reader import Bundle
    from replay.ticket.attachment import Attachment
    from replay.ticket.document import Document
    from replay.ticket.filing import Ticket
    from replay.ticket.tracker import Filed

__all__ = ["ticket"]


@click.command(short_help="Attach to a ticket, or print what to paste.")
@bundle_argument
@click.option("--to", "to", metavar="TICKET", help="jira:KEY-1, jira-server:KEY-1, github:owner/repo#1, "
              "gitlab:group/project#1, slack:#channel or webhook:URL. Default: print Markdown.")  # fmt: skip
@click.option("--url", metavar="URL", help="Where a self-hosted tracker's API begins.")
@click.option("--no-attach", is_flag=True, help="Comment without the file.")
@click.option("--presign", metavar="SPAN", help="Add a link to the s3:// bundle that works so long, such as 12h.")
@click.option("--once", metavar="SINK", help="File once per defect and hour for all that use this sink.")
@click.option("--image", is_flag=True, help="Print the first bad image into the Markdown, as a data: URL.")
@click.option("--models", metavar="LOCATION", help="Model store, to say where the models are held.")
@click.option("--timeout", type=Number(0.1, 3600), default=30.0, metavar="SECONDS",
              help="Longest wait for an answer; default 30.")  # fmt: skip
@json_option
def ticket(
    bundle: str,
    to: str | None,
    url: str | None,
    no_attach: bool,
    presign: str | None,
    once: str | None,
    image: bool,
    models: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Say on a ticket what happened, and attach the bundle. Run again, it updates what it wrote.

    Credentials come from the environment: GITHUB_TOKEN, GITLAB_TOKEN,
    JIRA_EMAIL and JIRA_API_TOKEN, JIRA_SERVER_TOKEN, SLACK_BOT_TOKEN, REPLAY_WEBHOOK_SECRET.
    Exit code 2: wrong address or credentials · 3: the tracker cannot be
    reached, or refuses. Example:

    \b
        replay ticket incidents/…bundle.zst
        replay ticket incidents/…bundle.zst --to jira:LINE-12
    """
    from replay.ticket.facts import first_bad_picture

    if to is None and (presign or once or url or no_attach):
        raise click.UsageError("--presign, --once, --url and --no-attach need --to: without it nothing is filed")
    with open_bundle(bundle) as opened:
        document = _described(opened, bundle, models)
        if to is None:
            _print(opened, bundle, document, image, as_json)
            return
        from replay.ticket.filing import Ticket
        from replay.ticket.presign import parse_duration

        ready = Ticket(
            document=document,
            location=bundle,
            attachment=None if no_attach else _attachment(opened, bundle),
            picture=first_bad_picture(opened),
            presign_seconds=parse_duration(presign) if presign else None,
        )
        _file(opened, ready, to, url, once, timeout, as_json)


def _described(opened: Bundle, location: str, models: str | None) -> Document:
    from replay.load import ConfigInvalid, find_locations, read_user_config
    from replay.ticket.facts import describe, saved_verdict

    path = Path(location) if "://" not in location else None
    try:
        stores = find_locations(path, models, read_user_config())
    except ConfigInvalid as error:
        raise click.ClickException(str(error)) from error
    verdict = saved_verdict(location, opened.id)
    if verdict.problem:
        print_note(f"replay: {verdict.problem}")
    return describe(opened, verdict, stores, path.parent if path is not None else None)


def _print(opened: Bundle, location: str, document: Document, image: bool, as_json: bool) -> None:
    from replay.ticket.facts import command_for, first_bad_picture
    from replay.ticket.markdown import markdown

    picture = first_bad_picture(opened) if image else None
    appendix = ""
    if picture is not None:
        appendix = f"![first bad image](data:image/jpeg;base64,{base64.b64encode(picture.data).decode()})"
    text = markdown(replace(document, command=command_for(location)), appendix=appendix, marked=False)
    if as_json:
        print_json({"bundle": opened.id, "to": None, "markdown": text})
    else:
        print_line(text.rstrip("\n"))


def _attachment(opened: Bundle, location: str) -> Attachment | None:
    from replay.ticket.attachment import from_bundle, from_file

    if "://" not in location:
        return from_file(Path(location), opened.id)
    # What was decrypted to be read is not what may be passed on.
    return None if location.endswith(".age") else from_bundle(opened, location)


def _file(
    opened: Bundle, ready: Ticket, to: str, url: str | None, once: str | None, timeout: float, as_json: bool
) -> None:
    from recorder.bundle.errors import BundleError
    from recorder.sinks import SinkUnavailable, open_sink
    from replay.ticket.filing import connect, file_ticket
    from replay.ticket.once import Occasion, file_once
    from replay.ticket.tracker import parse_address

    address = parse_address(to)
    tracker = connect(address, url, timeout)
    why_not, first = "", None

    def file() -> Filed:
        nonlocal why_not
        filed, why_not = file_ticket(ready, tracker)
        return filed

    if once is None:
        filed = file()
    else:
        try:
            claims = open_sink(once).claims()
            if claims is None:
                raise click.ClickException("--once needs a sink that can hold claims: a directory, or s3://…")
            occasion = Occasion.of(opened.manifest.incident, opened.id, ready.location, to)
            filed, first = file_once(occasion, claims, tracker, file)
        except SinkUnavailable as error:
            raise BundleError(str(error)) from error
        except OSError as error:
            raise BundleError(f"no claim can be made in {once}: {error.strerror}; check its permissions") from error
    _tell(opened.id, to, filed, why_not, first, as_json)


def _tell(bundle_id: str, to: str, filed: Filed, why_not: str, first: str | None, as_json: bool) -> None:
    if as_json:
        print_json({
            "bundle": bundle_id, "to": to, "url": filed.url, "updated": filed.updated, "attached": filed.attached,
            "not_attached_because": why_not or None, "counted_on": first,
        })  # fmt: skip
        return
    done = f"counted on the ticket of bundle {first[:12]}" if first else "updated" if filed.updated else "filed"
    print_line(
        styled(done, fg="green", bold=True) + f"   {to.partition(':')[0]}{': ' + filed.url if filed.url else ''}"
    )
    if first is None:
        print_line("the bundle is attached" if filed.attached else f"the bundle is not attached: {why_not}")
