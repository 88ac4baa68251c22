"""Computing with what nobody else wants of the processors."""

import os


def compute_when_idle() -> None:
    """This thread, and those that it starts from now on, run where no other thread of the machine would: so a server
    beside them is disturbed little (Linux's SCHED_IDLE: sched(7)).
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
