"""What the operator sets about recordings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bridge.errors import ConfigError

AudioFormat = Literal["wav", "mp3"]

LONGEST_S = 6 * 3600.0
"""Longest recording there can be: at 48 kHz a stereo WAV reaches 4.15 GB then, just under the 4 GiB that its 32-bit
sizes can say. Players that read RF64 are rare, and so are calls of six hours; at 8 kHz such a file has 0.7 GB."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """An S3-compatible bucket."""

    bucket: str
    prefix: str = ""
    """Put before each file's name, e.g. ``recordings/``."""
    endpoint_url: str = ""
    """Address of a server other than Amazon's, e.g. ``https://minio.example.com``."""
    region: str = ""
    """Empty: boto3's own settings (AWS_REGION, the machine's profile), else ``us-east-1``."""
    access_key_id: str = ""
    """Empty: boto3's own chain, e.g. the machine's role."""
    secret_access_key: str = field(default="", repr=False)
    path_style: bool = False
    """``host/bucket/key`` rather than ``bucket.host/key``: for servers without a DNS name for each bucket."""


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """How calls are recorded. Raises ``ConfigError`` for what does not go together."""

    folder: Path
    """Where recordings are written; with a bucket, where they wait for their upload. Made if absent, mode 0700. Several
    processes may share it."""
    format: AudioFormat = "wav"
    """``wav`` costs 32 kB a second of a call at 8 kHz and next to no CPU; ``mp3`` 4 kB and about 0.1 % of a core."""
    s3: S3Options | None = None
    min_free_bytes: int = 500_000_000
    """Below so much free space nothing is recorded, so that a full disk does not stop the database beside it."""
    longest_s: float = LONGEST_S
    """Recordings end after so long; the call goes on."""
    finish_timeout_s: float = 10.0
    """How long the end of a recording may take (last block, fsync) before its call's record does without it."""
    threads: int = 2
    """Threads that write and encode; only MP3 makes use of more than one."""

    def __post_init__(self) -> None:
        wrong = []
        if not 0 < self.longest_s <= LONGEST_S:
            wrong.append(f"a recording lasts {LONGEST_S:.0f} s at most (and more than 0), not {self.longest_s:.0f} s")
        if self.threads < 1:
            wrong.append("recording takes at least one thread")
        if self.s3 is not None and not self.s3.bucket:
            wrong.append("the bucket for recordings has no name")
        if self.s3 is not None and bool(self.s3.access_key_id) != bool(self.s3.secret_access_key):
            wrong.append("the bucket's key id and its secret key go together: set both or neither")
        if wrong:
            raise ConfigError("; ".join(wrong))
