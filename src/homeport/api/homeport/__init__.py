"""The operations that Homeport has beside Amazon's: the history of a resource, and reads of the past. Their model is `service-2.json`."""
