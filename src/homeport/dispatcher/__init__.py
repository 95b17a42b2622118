"""The control plane's end of every agent session. Streams what is stored; never decides anything."""
