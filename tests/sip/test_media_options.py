from __future__ import annotations

import pytest

from bridge.errors import LocalError
from bridge.sip.media_options import MAX_QUEUE_BYTES, KeyWay, MediaOptions


def test_the_usual_choices() -> None:
    options = MediaOptions()
    assert (options.first_media_timeout_s, options.media_timeout_s) == (30.0, 30.0)
    assert (options.key_way, options.has_inband_detection) == (KeyWay.AUTO, False)
    assert MAX_QUEUE_BYTES == 10 * 8000


def test_time_outs_are_not_nothing() -> None:
    with pytest.raises(LocalError, match="^media: time-outs are more than 0 s$"):
        MediaOptions(first_media_timeout_s=0.0)
    with pytest.raises(LocalError, match="^media: time-outs are more than 0 s$"):
        MediaOptions(media_timeout_s=-1.0)


def test_the_queue_holds_a_frame() -> None:
    MediaOptions(max_queue_bytes=160)
    with pytest.raises(LocalError, match="^media: the queue holds at least a frame of 160 bytes$"):
        MediaOptions(max_queue_bytes=159)
