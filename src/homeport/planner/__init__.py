"""What should change: one pure function per concern, from records and `now` to a plan. Never applies anything."""
