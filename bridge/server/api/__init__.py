"""The operator's REST interface below ``/v1``, its OpenAPI document and the page at ``/docs``.

``router.create_api`` puts it together. Each topic is a module that gives operations for one table; ``operations.py``
runs them, ``openapi.py`` and ``docs_page.py`` describe them. It reads and commands through the small protocols of
``ports.py`` and knows neither the database nor the calls' sessions. Not the carriers' webhooks, and not media.
"""
