"""The handlers of ECS's operations, one module per resource, named as in `model/ecs/`. Never talks to an agent or a controller."""
