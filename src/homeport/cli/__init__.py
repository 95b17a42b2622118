"""The command line. Speaks only the public API, and starts and stops Homeport's own programs; never opens the store."""
