"""What the tests of tickets share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import small_bundle
from tests.cli.conftest import Ended, Run, replay
from tests.ticket import server

__all__ = ["File", "replay"]

KINDS = {
    "github": server.GitHub, "gitlab": server.GitLab, "jira": server.Jira, "jira-server": server.JiraServer,
    "slack": server.Slack, "webhook": server.Webhook,
}  # fmt: skip
ENVIRONMENT = {
    "GITHUB_TOKEN": server.TOKEN, "GITLAB_TOKEN": server.TOKEN, "JIRA_EMAIL": "me@acme", "JIRA_API_TOKEN": server.TOKEN,
    "JIRA_SERVER_TOKEN": server.TOKEN, "SLACK_BOT_TOKEN": server.TOKEN, "REPLAY_WEBHOOK_SECRET": server.TOKEN,
}  # fmt: skip

File = Callable[..., Ended]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tokens, no proxy, nobody's config."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "REPLAY_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def start() -> Iterator[Callable[[str], Any]]:
    """Start a tracker of some kind."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(KINDS[kind]().running())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle in a sink of its own."""
    (tmp_path / "sink").mkdir()
    return small_bundle(tmp_path / "sink" / "20260301T030000.250000Z-0123456789ab.zst")


@pytest.fixture
def file(replay: Run) -> File:  # the fixture of the command line
    """File a bundle on a running tracker."""

    def run(tracker: server.Tracker, bundle: Path, *options: object) -> Ended:
        return replay("ticket", bundle, "--to", tracker.address, "--url", tracker.url + tracker.base, *options)  # type: ignore[attr-defined]

    return run
