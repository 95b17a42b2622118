"""What AWS CloudTrail tells of the calls of an account, from the audit log and the journal."""
