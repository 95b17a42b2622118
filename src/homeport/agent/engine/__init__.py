"""From a task's payload to running containers. Never talks to the control plane."""
