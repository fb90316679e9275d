"""`bridge bench`: what one call costs, measured over the public wire, next to a floor and a plain design.

A load process places simulated Twilio calls against a server process and plays the agent behind it. The same
load is put on three targets in turn: the bridge, HAProxy in TCP mode carrying the carrier's bytes unread (the
floor), and a small FastAPI relay (the plain design). ``runner.run_bench`` is the entrance.
"""
