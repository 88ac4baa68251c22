"""What `FileService` and `JobService` answer."""
