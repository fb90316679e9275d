"""Telephony bridge: joins phone calls from carriers to ElevenLabs conversational agents.

The layers, lowest first; each may import only from those before it (``tests/test_layers.py`` checks it):

``errors, outcome, media`` <- ``events, leg, auth`` <- ``providers | sip | convai`` <- ``calls``
<- ``settings, config, readme, web, server, simulators`` <- ``bench, doctor, replay, cli, cli_*``
"""

__version__ = "0.1.0"
