"""The handlers of IAM's operations, one module per resource, named as in `model/iam/`. Never decides who may do what."""
