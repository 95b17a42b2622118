"""Identity: access keys now; users, roles and policies later. Never decides who may do what."""
