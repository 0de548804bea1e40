"""``pytest --replay-suite incidents/suite``: every case of a suite is a test item.

Loaded by pytest wherever the package is installed, so it imports the standard library alone and does nothing before it
is asked. Besides the suite it takes the candidate: ``--replay-model``, ``--replay-weights``, ``--replay-pipeline``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from replay.suite.document import Case, Suite
    from replay.suite.running import CaseResult, SuiteRunner

__all__ = ["pytest_addoption", "pytest_collection", "pytest_unconfigure"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("replay", "incidents as tests (vision-flight-recorder)")
    group.addoption("--replay-suite", action="append", default=[], metavar="DIR", help="run the cases of this suite")
    group.addoption(
        "--replay-model", metavar="pkg.mod:factory", help="candidate: function that builds it; its code is run"
    )
    group.addoption("--replay-weights", metavar="FILE", help="candidate: its weights (safetensors or ONNX)")
    group.addoption(
        "--replay-pipeline", metavar="pkg.mod:predict", help="candidate: function of the image; its code is run"
    )
    group.addoption("--replay-models", metavar="LOCATION", help="model store, where it is not beside the suite")
    group.addoption("--replay-timeout", type=float, metavar="SECONDS", help="longest time for one call of a model")
    group.addoption("--replay-repeat", type=int, default=2, metavar="N", help="passes over every case (default: 2)")


_RUNNERS: pytest.StashKey[dict[Path, SuiteRunner]] = pytest.StashKey()


class SuiteCollector(pytest.Collector):
    """The cases of one suite."""

    def __init__(self, *, folder: Path, **extra: Any) -> None:
        super().__init__(**extra)
        self.folder = folder

    def collect(self) -> Iterator[CaseItem]:
        """Read ``suite.toml``; one that cannot be read is a collection error of one sentence."""
        from replay.suite.document import SuiteInvalid, read_suite

        try:
            suite = read_suite(self.folder)
        except (SuiteInvalid, FileNotFoundError) as error:
            missing = isinstance(error, FileNotFoundError)
            raise self.CollectError(f"{self.folder} is no directory" if missing else str(error)) from None
        for case in suite.cases:
            yield CaseItem.from_parent(self, name=case.name, suite=suite, case=case)


class CaseItem(pytest.Item):
    """One case."""

    def __init__(self, *, suite: Suite, case: Case, **extra: Any) -> None:
        super().__init__(**extra)
        self.suite = suite
        self.case = case

    def runtest(self) -> None:
        """Run it; whatever is not a pass is a failure, and what cannot be run is said to be that."""
        result = self._runner().run(self.case)
        self.user_properties.append(("replay_status", result.status))
        if result.status != "pass":
            raise CaseFailed(result)

    def _runner(self) -> SuiteRunner:
        from replay.suite.candidate import candidate_options
        from replay.suite.running import SuiteRunner

        runners = self.config.stash.setdefault(_RUNNERS, {})
        if self.suite.folder not in runners:
            option = self.config.option
            options = candidate_options(
                model=[option.replay_model] if option.replay_model else [],
                model_directory=str(self.config.rootpath),
                weights=option.replay_weights,
                pipeline=option.replay_pipeline,
                models=option.replay_models,
                timeout_seconds=option.replay_timeout,
                repeat=option.replay_repeat,
            )
            runners[self.suite.folder] = SuiteRunner(self.suite, options)
        return runners[self.suite.folder]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Expected, got, evidence and the command that shows more; a traceback only of what went wrong in replay."""
        if not isinstance(excinfo.value, CaseFailed):
            from replay.load import ConfigInvalid

            if isinstance(excinfo.value, ConfigInvalid | ValueError):
                return f"the candidate cannot be run: {excinfo.value}"
            return super().repr_failure(excinfo, style)
        import shlex

        result = excinfo.value.result
        told = "\n".join(f"    {sentence}" for sentence in result.sentences)
        path = shlex.quote(str(self.suite.folder / self.case.file))
        return f"{result.name}: {result.status}\n{told}\n    to look closer: replay show {path}"

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the case stands."""
        return self.suite.folder / "suite.toml", None, f"replay suite: {self.name}"


class CaseFailed(Exception):
    """A case that did not pass."""

    def __init__(self, result: CaseResult) -> None:
        super().__init__(result.status)
        self.result = result


def pytest_collection(session: pytest.Session) -> None:
    """Have the suites' cases collected after the tests."""
    folders = [Path(folder) for folder in session.config.option.replay_suite]
    if folders:
        session.config.pluginmanager.register(_Collecting(folders), "replay-suite-collecting")


class _Collecting:
    """Adds the suites to what is collected; registered only when there are some."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Any:
        report = yield
        if isinstance(collector, pytest.Session) and report.result is not None:
            report.result = [*report.result, *self._suites(collector)]
        return report

    def _suites(self, session: pytest.Session) -> Iterable[SuiteCollector]:
        for folder in self._folders:
            absolute = (session.config.invocation_params.dir / folder).resolve()
            name = f"replay-suite/{folder.name or absolute.name}"
            yield SuiteCollector.from_parent(session, name=name, nodeid=name, folder=absolute)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the workers."""
    for runner in config.stash.get(_RUNNERS, {}).values():
        runner.close()
