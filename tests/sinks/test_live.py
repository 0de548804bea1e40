"""The list in the browser, of a bucket: what is there, what is no longer, and what a store says or does not say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from recorder.sinks.s3.source import reading_client
from tests.bundles import small_bundle
from tests.live.visitor import served
from tests.sinks.proxy import FaultyProxy, Request
from tests.waiting import wait_for

Put = Callable[..., None]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three, each different."""
    folder = tmp_path_factory.mktemp("bundles")
    return [small_bundle(folder / f"{seed}.zst", seed=seed, frames=3 + seed).read_bytes() for seed in range(3)]


@pytest.fixture
def put(s3: Any, bucket: str, bundles: list[bytes]) -> Put:
    """Put one of them into the bucket under a name."""

    def made(name: str, which: int = 0) -> None:
        s3.put_object(Bucket=bucket, Key=f"p/line-3/{name}.zst", Body=bundles[which])

    return made


def test_a_bucket_is_listed_filtered_and_opened(s3: Any, bucket: str, put: Put) -> None:
    """What is no bundle is named, models are no incidents, and what arrives is in the next list."""
    put("one")
    s3.put_object(Bucket=bucket, Key="p/broken.zst", Body=b"\x28\xb5\x2f\xfd broken")
    s3.put_object(Bucket=bucket, Key="p/models/abc.onnx", Body=b"a model")
    with served(f"s3://{bucket}/p") as visitor:
        _, _, body = visitor.ask("/")
        [one] = _keys(body)
        assert ">2 in" in body and "cannot be read" in body and "broken.zst" in body and "abc.onnx" not in body
        put("two", 1)
        body = visitor.ask("/?stream=line-3&text=TWO")[2]
        assert "two.zst" in body and "one.zst" not in body
        status, _, body = visitor.ask(f"/incident/{one}")
        assert status == 200 and "one.zst" in body and "confidence 0.31 is below 0.5" in body
        assert visitor.ask(f"/thumbnail/{one}")[1]["Content-Type"] == "image/jpeg"


def test_what_changed_since_it_was_listed_is_said(s3: Any, bucket: str, put: Put) -> None:
    """An incident that was removed, and one that was replaced; the next list knows."""
    put("gone")
    put("other", 1)
    with served(f"s3://{bucket}/p") as visitor:
        body = visitor.ask("/")[2]
        gone, other = (_key_of(body, name) for name in ("gone", "other"))
        s3.delete_object(Bucket=bucket, Key="p/line-3/gone.zst")
        put("other", 2)
        assert "no such object" in visitor.sentence(f"/incident/{gone}")
        assert "another bundle stands in its place" in visitor.sentence(f"/incident/{other}")
        for key in (gone, other):  # the list goes without their pictures, and the console without an error
            assert visitor.ask(f"/thumbnail/{key}")[0] == 200
        assert visitor.keys() == [other]
        assert visitor.ask(f"/incident/{other}")[0] == 200


def test_credentials_that_expire_are_a_sentence_until_they_are_renewed(
    bucket: str, put: Put, proxy: FaultyProxy
) -> None:
    """What was known stays listed; what could not be read meanwhile is read then."""
    put("old")
    with served(f"s3://{bucket}/p") as visitor:
        [old] = visitor.keys()
        proxy.fault = lambda request: "400 ExpiredToken"
        before = reading_client()
        status, _, body = visitor.ask("/")
        assert reading_client() is not before  # a client keeps the credentials that it was made with
        assert status == 200 and "the credentials have expired; renew them" in body and "old.zst" in body
        assert "credentials have expired" in visitor.sentence(f"/incident/{old}")
        proxy.fault = lambda request: "403 AccessDenied" if request.method == "HEAD" else None
        put("new", 1)
        body = visitor.ask("/")[2]
        assert "expired" not in body and "access is denied" in body and "new.zst" in body
        proxy.fault = lambda request: None
        body = visitor.ask("/")[2]
        assert len(_keys(body)) == 2 and "cannot be read" not in body


def test_a_bucket_that_hangs_holds_only_who_asked_for_it(bucket: str, put: Put, proxy: FaultyProxy) -> None:
    """Lists are answered with what is known, pages that are kept at once."""
    put("kept")
    put("other", 1)
    with served(f"s3://{bucket}/p", patience=0.0) as visitor:
        wait_for(lambda: len(visitor.keys()) == 2)
        body = visitor.ask("/")[2]
        kept, other = (_key_of(body, name) for name in ("kept", "other"))
        page = visitor.ask(f"/incident/{kept}")[2]
        held, go = threading.Event(), threading.Event()

        def hang(request: Request) -> None:
            held.set()
            assert go.wait(60)

        proxy.fault = hang
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(visitor.ask(f"/incident/{other}")[0]))
        waiting.start()
        try:
            assert held.wait(60)
            assert visitor.keys() == _keys(body)
            assert visitor.ask(f"/incident/{kept}")[2] == page
            assert visitor.ask("/incident/nowhere")[0] == 404
            assert answers == []
        finally:
            go.set()
            waiting.join()
        assert answers == [200]


def _keys(body: str) -> list[str]:
    return [part[:24] for part in body.split('href="/incident/')[1:]]


def _key_of(body: str, name: str) -> str:
    [found] = [item for item in body.split("<li ")[1:] if f"{name}.zst" in item]
    return _keys(found)[0]
