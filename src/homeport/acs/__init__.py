"""The messages that both ends of an agent's connection speak: types and sequence numbers. Never does IO."""
