"""The client side of ElevenLabs' agent WebSocket ("convai"), sans-I/O."""
