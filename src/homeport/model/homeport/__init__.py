"""The records of what Homeport has beside Amazon's services."""
