"""The page at which an operator signs in, and the one that is shown while nobody can."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.web.html import Frame, document, text


def render_sign_in(root: str, version: str, *, problem: str = "", ended: bool = False, then: str = "") -> str:
    """The form. ``problem``: why the last attempt failed; ``ended``: a session is over; ``then``: the page to go to."""
    return document(Frame("Sign in", root, version), _form(root, problem, ended, then))


def _form(root: str, problem: str, ended: bool, then: str) -> Iterator[str]:
    yield '<section class="card narrow" aria-labelledby="title">\n<h1 id="title">Sign in</h1>'
    if problem:
        yield f'<p class="problem" role="alert" id="problem">{text(problem)}</p>'
    elif ended:
        yield '<p class="note" role="status">Your session has ended. Sign in again to go on.</p>'
    described = ' aria-describedby="problem help" aria-invalid="true"' if problem else ' aria-describedby="help"'
    yield f'<form method="post" action="{text(root)}sign-in">'
    yield f'<input type="hidden" name="then" value="{text(then)}">'
    yield '<label for="key">API key</label>'
    # No name of a user goes with it; password managers keep it by the page all the same.
    yield (
        f'<input id="key" name="key" type="password" required autofocus maxlength="512" '
        f'autocomplete="current-password" spellcheck="false"{described}>'
    )
    yield '<p id="help" class="muted">A key of <code>BRIDGE_API_KEY</code>; a read key may look, an admin key act.</p>'
    yield '<button type="submit" class="primary">Sign in</button>\n</form>\n</section>'


def render_sorry(root: str, version: str, title: str, words: str, more: str = "") -> str:
    """A page that says what does not work, and what to do about it."""
    return document(Frame(title, root, version), _sorry(root, title, words, more))


def _sorry(root: str, title: str, words: str, more: str) -> Iterator[str]:
    yield f'<section class="card narrow" aria-labelledby="title">\n<h1 id="title">{text(title)}</h1>'
    yield f"<p>{text(words)}</p>"
    if more:
        yield f'<p class="muted">{text(more)}</p>'
    yield f'<p><a href="{text(root)}">Back to the console</a></p>\n</section>'
