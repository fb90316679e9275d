"""What outlives a process: call records, the webhook outbox, instances and routes, in SQLite or PostgreSQL."""
