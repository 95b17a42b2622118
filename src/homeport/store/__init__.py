"""Where state lives: one writer at a time, everyone reads its own copy. Never decides what should change."""
