"""Identity: access keys, users, groups, roles, policies. Never decides who may do what."""
