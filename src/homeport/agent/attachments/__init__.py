"""What a task needs before its containers start, one module per thing. Never starts a container."""
