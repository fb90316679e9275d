"""``bridge doctor``: looks at everything that a call needs before the first one comes, and says what to do.

Each topic is a file: functions that look (``look_at_...``, they touch the network or the disk and return facts), and
pure functions that judge (``judge_...``, facts to ``Finding``). ``plan`` lists the checks, ``runner`` runs them beside
each other, ``report`` shows what came of it. What it is not: a load test (``bridge bench``), nor a monitor (``/readyz``
and ``/metrics`` of the running bridge).
"""
