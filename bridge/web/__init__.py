"""Pages that the bridge serves to its operator. Data in, text out; serving them is up to ``server``."""
