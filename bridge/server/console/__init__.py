"""The operator's console: signing in, its pages, the stream of live calls, listening. ``bridge.web`` draws it.

What it is not: another API. Orders to calls, recordings and flight records are the API's, asked from within
(``bridge.server.console.forward``), so that each of them is decided in one place.
"""
