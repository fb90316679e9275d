"""The only place with asyncio, sockets, HTTP and clocks: drives the pure parts and answers the carriers."""
