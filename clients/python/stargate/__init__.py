"""Stargate's client: submits work, waits for it, reads its output. Standard library only.

    import stargate

    with stargate.Client() as sg:
        job = sg.submit("train.yaml")
        for chunk in sg.logs(job.id, follow=True):
            sys.stdout.buffer.write(chunk)
        rows = sg.wait(job)

`stargate.elastic` is for programs that run as jobs.
"""

from .client import Accepted, Client, Event, Job, Service, StargateError, Why

__all__ = ["Accepted", "Client", "Event", "Job", "Service", "StargateError", "Why"]
