"""ECS's resources, one module each, named by AWS's nouns. Never imports the store, the API or a controller."""
