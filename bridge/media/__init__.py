"""Pure signal code: bytes and samples in, bytes and samples out. No JSON, no asyncio, no carrier names."""
