"""``bridge.server.recording.bucket`` and all that uses it, against an S3 server on this machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from bridge.errors import ConfigError
from bridge.media.format import PCM_8K
from bridge.server.recording.bucket import PART_BYTES, Bucket, BucketError
from bridge.server.recording.encoders import WavEncoder
from bridge.server.recording.library import AudioLibrary
from bridge.server.recording.manager import Recorder
from bridge.server.recording.names import AudioNotFoundError
from bridge.server.recording.options import RecordingOptions, S3Options
from bridge.server.recording.uploads import Uploader
from tests.kit.recordings import mp3_frames, stereo
from tests.kit.server import free_port, until

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI"
PCM = stereo(8000, 2.0)
WAV = WavEncoder(8000).header(len(PCM)) + PCM


def options_for(port: int, **changes: Any) -> S3Options:
    given: dict[str, Any] = {
        "bucket": "calls",
        "prefix": "recordings/",
        "endpoint_url": f"http://127.0.0.1:{port}",
        "region": "eu-central-1",
        "access_key_id": KEY,
        "secret_access_key": SECRET,
        "path_style": True,
    }
    return S3Options(**{**given, **changes})


def client_for(port: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="eu-central-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )


def start_server(port: int = 0) -> tuple[ThreadedMotoServer, int]:
    """An S3 server, with what an earlier one in this process held: that lies in moto's own memory."""
    moto = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    moto.start()
    return moto, moto.get_host_and_port()[1]


@pytest.fixture
def server() -> Iterator[int]:
    """An S3 server with an empty bucket; gives its port."""
    moto, port = start_server()
    httpx.post(f"http://127.0.0.1:{port}/moto-api/reset", trust_env=False)
    client = client_for(port)
    client.create_bucket(Bucket="calls", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    client.close()
    yield port
    moto.stop()


@pytest.fixture
def bucket(server: int) -> Iterator[Bucket]:
    bucket = Bucket(options_for(server))
    yield bucket
    bucket.close()


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def ignore(_size: int) -> None:
    """Nobody asks how far it got."""


@pytest.mark.e2e
def test_an_object_goes_there_and_back(bucket: Bucket, server: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    bucket.upload(tmp_path / "a.wav", "a.wav", ignore)
    client = client_for(server)
    stored = client.head_object(Bucket="calls", Key="recordings/a.wav")
    client.close()
    assert (stored["ContentLength"], stored["ContentType"]) == (len(WAV), "audio/wav")
    assert bucket.location("a.wav") == "s3://calls/recordings/a.wav"
    assert bucket.size("a.wav") == len(WAV)
    assert b"".join(bucket.read("a.wav", 0, len(WAV))) == WAV
    assert b"".join(bucket.read("a.wav", 10, 20)) == WAV[10:20]
    bucket.delete("a.wav")
    bucket.delete("a.wav")
    with pytest.raises(AudioNotFoundError, match="the bucket has no such recording"):
        bucket.size("a.wav")
    with pytest.raises(AudioNotFoundError, match="the bucket has no such recording"):
        list(bucket.read("a.wav", 0, 1))


@pytest.mark.e2e
def test_a_large_file_goes_up_in_parts(bucket: Bucket, server: int, tmp_path: Path) -> None:
    whole = bytes(range(256)) * (2 * PART_BYTES // 256) + b"the end"
    (tmp_path / "a.wav").write_bytes(whole)
    told: list[int] = []
    bucket.upload(tmp_path / "a.wav", "a.wav", told.append)
    client = client_for(server)
    tag = client.head_object(Bucket="calls", Key="recordings/a.wav")["ETag"]
    client.close()
    assert tag.strip('"').endswith("-3")
    assert sum(told) == len(whole)
    assert b"".join(bucket.read("a.wav", 0, len(whole))) == whole


@pytest.mark.e2e
def test_an_upload_that_is_broken_off_leaves_nothing(bucket: Bucket, server: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(bytes(2 * PART_BYTES + 1))

    def stop(_size: int) -> None:
        raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        bucket.upload(tmp_path / "a.wav", "a.wav", stop)
    client = client_for(server)
    assert "Uploads" not in client.list_multipart_uploads(Bucket="calls")
    assert client.list_objects_v2(Bucket="calls")["KeyCount"] == 0
    client.close()


@pytest.mark.e2e
def test_what_the_bucket_refuses(server: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    bucket = Bucket(options_for(server, bucket="another"))
    with pytest.raises(BucketError, match="NoSuchBucket"):
        bucket.upload(tmp_path / "a.wav", "a.wav", ignore)
    with pytest.raises(BucketError, match="NoSuchBucket"):
        list(bucket.read("a.wav", 0, 1))
    with pytest.raises(FileNotFoundError):
        bucket.upload(tmp_path / "gone.wav", "gone.wav", ignore)
    bucket.close()


def test_a_bucket_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(WAV)
    bucket = Bucket(options_for(free_port()))
    with pytest.raises(BucketError, match="Could not connect") as caught:
        bucket.upload(tmp_path / "a.wav", "a.wav", ignore)
    assert SECRET not in str(caught.value)
    with pytest.raises(BucketError, match="Could not connect"):
        bucket.delete("a.wav")
    bucket.close()


def test_an_answer_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Body:
        closed = False

        def read(self, _size: int) -> bytes:
            raise ConnectionResetError

        def close(self) -> None:
            self.closed = True

    bucket, body = Bucket(options_for(1)), Body()
    monkeypatch.setattr(bucket, "_call", lambda *_, **__: {"Body": body})
    with pytest.raises(BucketError, match="the bucket's answer broke off: ConnectionResetError"):
        list(bucket.read("a.wav", 0, 10))
    assert body.closed
    bucket.close()


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="the bucket's settings do not work: Invalid endpoint"):
        Bucket(options_for(1, endpoint_url="not an address"))


def test_without_boto3_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(ConfigError, match=r"need the package boto3: pip install 'telephony-bridge\[s3\]'"):
        Bucket(options_for(1))


def test_the_two_ways_to_name_a_bucket() -> None:
    for path_style, address in ((True, "http://s3.test:1/calls/"), (False, "http://calls.s3.test:1/")):
        bucket = Bucket(options_for(1, endpoint_url="http://s3.test:1", path_style=path_style))
        assert bucket.presigned_url("a.wav", 60).startswith(f"{address}recordings/a.wav?")
        bucket.close()


# --- the library ---


@pytest.mark.e2e
async def test_audio_is_read_from_the_folder_first_and_then_from_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    library, location = AudioLibrary(tmp_path, bucket), "s3://calls/recordings/a.wav"
    (tmp_path / "a.wav").write_bytes(WAV)
    waiting = await library.open_audio(location)
    assert await library.presigned_url(location, 60) == ""
    bucket.upload(tmp_path / "a.wav", "a.wav", ignore)
    (tmp_path / "a.wav").unlink()
    assert b"".join([chunk async for chunk in waiting.chunks]) == WAV, "it went up between head and body"

    part = await library.open_audio(location, "wav", "bytes=-100")
    assert (part.status, part.headers["Content-Range"]) == (206, f"bytes {len(WAV) - 100}-{len(WAV) - 1}/{len(WAV)}")
    assert b"".join([chunk async for chunk in part.chunks]) == WAV[-100:]
    converted = await library.open_audio(location, "mp3")
    assert len(mp3_frames(b"".join([chunk async for chunk in converted.chunks]))) >= 28
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(await library.presigned_url(location, 60))).content == WAV

    await library.delete_audio(location)
    with pytest.raises(AudioNotFoundError):
        await library.find(location)


@pytest.mark.parametrize(
    "location", ["s3://other/recordings/a.wav", "s3://calls/a.wav", "s3://calls/recordings/../a.wav", "s3://calls"]
)
async def test_other_buckets_and_prefixes_are_not_touched(tmp_path: Path, location: str) -> None:
    bucket = Bucket(options_for(1))
    library = AudioLibrary(tmp_path, bucket)
    for refused in (library.find(location), library.delete_audio(location)):
        with pytest.raises(AudioNotFoundError):
            await refused
    bucket.close()


# --- the whole way ---


@pytest.mark.e2e
async def test_a_call_gets_into_the_bucket_and_leaves_the_folder(server: int, tmp_path: Path) -> None:
    recorder = Recorder(RecordingOptions(tmp_path, s3=options_for(server), min_free_bytes=0))
    await recorder.open()
    clock = asyncio.get_running_loop().time
    tape = recorder.start("call", PCM_8K, clock() - 1.0)
    for index in range(50):
        tape.caller(bytes(320), clock() - 1.0 + index * 0.02)
    recording = await recorder.finish("call")
    assert recording.location == "s3://calls/recordings/call.wav"
    assert recording.complete
    await until(lambda: not list(tmp_path.iterdir()))
    audio = await recorder.audio.open_audio(recording.location)
    assert len(b"".join([chunk async for chunk in audio.chunks])) == recording.size_bytes
    assert recorder.uploads is not None
    assert (recorder.uploads.uploaded, recorder.uploads.pending) == (1, 0)
    await recorder.close()


@pytest.mark.e2e
async def test_recordings_wait_while_the_bucket_is_down_also_across_a_restart(server: int, tmp_path: Path) -> None:
    down = free_port()
    (tmp_path / "a.wav").write_bytes(WAV)
    bucket = Bucket(options_for(down))
    first = Uploader(tmp_path, bucket, first_retry_s=0.02)
    first.start()
    await until(lambda: first.failures >= 1)
    await first.close()
    assert (tmp_path / "a.wav").exists()

    second = Uploader(tmp_path, bucket, first_retry_s=0.02)
    second.start()
    await until(lambda: second.failures >= 1)
    up, _ = await asyncio.to_thread(start_server, down)
    await until(lambda: second.uploaded == 1)
    await second.close()
    assert not (tmp_path / "a.wav").exists()
    assert await asyncio.to_thread(bucket.size, "a.wav") == len(WAV)
    bucket.close()
    await asyncio.to_thread(up.stop)
