"""The other sides of the bridge, strict about the wire: a convai agent and one caller per carrier.

Used by the demo, the tests, the bench, and by users to try their set-up without a carrier or an account.
"""
