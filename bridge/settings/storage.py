"""What is kept of calls, where, and for how long."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr, ValidationInfo, field_validator

from bridge.settings.base import HttpUrl, Lower, Topic, setting

_DATABASES = frozenset({"sqlite", "sqlite+aiosqlite", "postgres", "postgresql", "postgresql+asyncpg"})
_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^?#]*))?")
MAX_DAYS = 36_500


def _database_url(value: SecretStr) -> SecretStr:
    mend = "give postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///PATH"
    try:
        parts = urlsplit(value.get_secret_value())
    except ValueError:
        raise ValueError(f"is no URL; {mend}") from None
    if parts.scheme not in _DATABASES or not parts.path.strip("/"):
        raise ValueError(f"is no address of a database; {mend}")
    return value


def _bucket(text: str) -> str:
    if not _BUCKET.fullmatch(text):
        raise ValueError("is no bucket; give s3://BUCKET or s3://BUCKET/PREFIX")
    return text.rstrip("/")


class StorageSettings(Topic):
    """Records and recordings."""

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = setting(
        None,
        "Database of the call records and outgoing webhooks: `postgresql://USER:PASSWORD@HOST/DATABASE`, which several "
        "processes on several machines can share, or `sqlite:///PATH`. Unset: SQLite in `DATA_DIR`.",
        restart=True,
    )
    retention_records_days: int = setting(
        90, "How long call records are kept. 0 = nothing is kept.", unit="days", ge=0, le=MAX_DAYS, restart=True
    )
    retention_transcripts_days: int = setting(
        30,
        "How long a record keeps what was said, tool calls and keys. 0 = they are never written.",
        unit="days",
        ge=0,
        le=MAX_DAYS,
        restart=True,
    )
    retention_audio_days: int = setting(
        30, "How long recordings are kept. 0 = nothing is recorded.", unit="days", ge=0, le=MAX_DAYS, restart=True
    )
    recording: bool = setting(
        False, "`on` records all calls whose route does not say otherwise. Ask what the law wants callers to be told."
    )
    recording_format: Annotated[Literal["wav", "mp3"], Lower] = setting(
        "wav",
        "`wav` = as it was heard, a megabyte a minute at 8 kHz; `mp3` = a quarter of it, at more CPU.",
        restart=True,
    )
    recording_dir: Path | None = setting(
        None, "Folder for recordings, and for those on their way to the bucket. Unset: `DATA_DIR/recordings`.",
        restart=True,
    )  # fmt: skip
    recording_s3_url: Annotated[str, AfterValidator(_bucket)] | None = setting(
        None, "Bucket for finished recordings, `s3://BUCKET/PREFIX`. Unset: they stay in the folder.", restart=True
    )
    recording_s3_endpoint: HttpUrl | None = setting(
        None, "Address of an S3-compatible service that is not Amazon's, such as `https://minio.example.com`.",
        restart=True,
    )  # fmt: skip
    recording_s3_region: str | None = setting(
        None, "Region of the bucket. Unset: what the AWS environment of the process says.", restart=True
    )
    recording_s3_access_key: SecretStr | None = setting(
        None, "Access key of the bucket. Unset: what the AWS environment of the process says.", restart=True
    )
    recording_s3_secret_key: SecretStr | None = setting(
        None, "Secret that belongs to `RECORDING_S3_ACCESS_KEY`.", restart=True
    )

    @field_validator("recording_s3_secret_key")
    @classmethod
    def _keys_come_in_pairs(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        has_key = info.data.get("recording_s3_access_key") is not None
        if has_key and value is None:
            raise ValueError("is not set although RECORDING_S3_ACCESS_KEY is; set both or neither")
        if not has_key and value is not None and "recording_s3_access_key" in info.data:
            raise ValueError("is set although RECORDING_S3_ACCESS_KEY is not; set both or neither")
        return value

    @property
    def recording_bucket(self) -> tuple[str, str] | None:
        """Bucket and prefix (without slashes at its ends; may be empty); None = recordings stay in the folder."""
        match = _BUCKET.fullmatch(self.recording_s3_url or "")
        return (match[1], (match[2] or "").strip("/")) if match else None
