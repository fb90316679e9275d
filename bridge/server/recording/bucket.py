"""An S3-compatible bucket, through boto3. Every method blocks and belongs into a thread; all may raise ``BucketError``.

boto3 is an optional part of the installation and is imported only here, when a bucket is set. It takes its
proxies from the environment, as every client of that kind does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError, ConfigError
from bridge.server.recording.encoders import CONTENT_TYPES
from bridge.server.recording.names import AudioNotFoundError, parse_name
from bridge.server.recording.options import S3Options

NO_BOTO3 = "recordings in a bucket need the package boto3: pip install 'telephony-bridge[s3]'"

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
ATTEMPTS = 2
"""Of one request; whatever takes longer waits for the uploader's own back-off."""
PART_BYTES = 8 * 1024 * 1024
"""Files larger than this go up in parts of this size: with the 10,000 parts that S3 allows, up to 80 GB."""
BLOCK_BYTES = 64 * 1024
MAX_CONNECTIONS = 16
"""Uploads and downloads at once."""


class BucketError(BridgeError):
    """The bucket refused or did not answer; the message is the client's, which names no secrets."""


class Bucket:
    """Objects of one bucket, by the name of their recording."""

    def __init__(self, options: S3Options) -> None:
        """Raises ``ConfigError`` if boto3 is missing or does not like the settings. Connects to nothing yet."""
        try:
            boto3 = importlib.import_module("boto3.session")
            config = importlib.import_module("botocore.config")
            transfer = importlib.import_module("boto3.s3.transfer")
            exceptions = importlib.import_module("botocore.exceptions")
            transfer_exceptions = importlib.import_module("boto3.exceptions")
        except ImportError:
            raise ConfigError(NO_BOTO3) from None
        self._bucket, self._prefix = options.bucket, options.prefix
        self._client_error = exceptions.ClientError
        self._errors = (exceptions.BotoCoreError, exceptions.ClientError, transfer_exceptions.Boto3Error)
        self._transfer = transfer.TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
        )
        try:
            self._client: Any = boto3.Session().client(
                "s3",
                endpoint_url=options.endpoint_url or None,
                region_name=options.region or None,
                aws_access_key_id=options.access_key_id or None,
                aws_secret_access_key=options.secret_access_key or None,
                config=config.Config(
                    signature_version="s3v4",
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    max_pool_connections=MAX_CONNECTIONS,
                    retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                    s3={"addressing_style": _addressing(options)},
                    # Servers other than Amazon's may not know the newer checksums; TLS and Content-MD5 are enough.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        except (ValueError, exceptions.BotoCoreError) as error:
            raise ConfigError(f"the bucket's settings do not work: {error}") from None

    def location(self, name: str) -> str:
        """Where the record says that this recording is."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def upload(self, path: Path, name: str, on_progress: Callable[[int], None]) -> None:
        """Put a file there, in parts if it is large. ``on_progress`` may raise, which ends the upload.

        Raises ``FileNotFoundError`` if the file is gone.
        """
        parsed = parse_name(name)
        assert parsed is not None, "names come from the folder's scan"
        extra = {"ContentType": CONTENT_TYPES[parsed[1]]}
        with path.open("rb") as file:  # ours to close: boto3 forgets its own when an upload is broken off
            try:
                self._client.upload_fileobj(
                    file, self._bucket, self._key(name), ExtraArgs=extra, Callback=on_progress, Config=self._transfer
                )
            except self._errors as error:
                raise BucketError(str(error)) from error

    def size(self, name: str) -> int:
        """Bytes of an object. Raises ``AudioNotFoundError``."""
        return int(self._call("head_object", name)["ContentLength"])

    def read(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``stop`` (exclusive) of an object, block by block. Raises ``AudioNotFoundError``."""
        body = self._call("get_object", name, Range=f"bytes={start}-{stop - 1}")["Body"]
        try:
            while block := body.read(BLOCK_BYTES):
                yield block
        except Exception as error:  # urllib3's own, among others: the connection broke
            raise BucketError(f"the bucket's answer broke off: {type(error).__name__}") from error
        finally:
            body.close()

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no mistake."""
        self._call("delete_object", name)

    def presigned_url(self, name: str, ttl_s: int) -> str:
        """An address that lets anybody read this object for so long: a secret."""
        url: str = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": self._key(name)}, ExpiresIn=ttl_s
        )
        return url

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _call(self, operation: str, name: str, **parameters: str) -> Any:
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, Key=self._key(name), **parameters)
        except self._client_error as error:
            if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey"):
                raise AudioNotFoundError("the bucket has no such recording") from None
            raise BucketError(str(error)) from error
        except self._errors as error:
            raise BucketError(str(error)) from error


def _addressing(options: S3Options) -> str:
    """boto3's word for it; its own choice (``auto``) for a server of another address is always the path."""
    if options.path_style:
        return "path"
    return "virtual" if options.endpoint_url else "auto"
