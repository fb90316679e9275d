"""What the tests share: a clock that stands still, messages as the peers write them, and checks of audio."""
