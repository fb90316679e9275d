"""Recordings as files: written while the call lasts, kept in a folder or a bucket, and read back.

``Recorder`` (manager) is the way in; what is on a tape is decided by ``bridge.calls.recording``, without any of this.
"""
