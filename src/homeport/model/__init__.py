"""What things are: frozen records, state enums, transition tables with owners.

Never does IO, never reads a clock, never draws a random number.
"""
