"""The host program: makes tasks real and reports. Never sees the store; speaks only the ECS API and the ACS websocket."""
