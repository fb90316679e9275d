"""Pure verifiers: given the secrets, the request and the time, say whether it is genuine. No I/O, no clock."""
