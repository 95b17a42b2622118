"""The replicated backend: the store's state in etcd, for three and more servers.

Import it only where etcd is used: it brings gRPC and protobuf into the process, which a server on SQLite does without.
"""
