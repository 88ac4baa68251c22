"""What each method makes of a job: `train(job, tell) -> Trained`."""
