"""Every setting of the bridge by topic: name, unit, default, reason and check. ``bridge.config`` puts them together."""
