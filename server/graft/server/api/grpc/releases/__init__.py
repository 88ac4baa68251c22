"""`ReleaseService`, and gates as they stand in a job."""
