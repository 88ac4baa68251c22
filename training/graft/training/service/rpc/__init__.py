"""``graft.v1.TrainService``: a call is answered when its turn is done."""
