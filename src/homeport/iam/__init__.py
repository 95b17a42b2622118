"""Identity: request signatures now, policies later. Never does IO."""
