"""Jobs that survive: accepted once, run once to completion, their products whole or not at all."""

from serving.jobs.facade import Jobs
from serving.jobs.job import Job, JobError, JobQueueFullError, NewJob, State, new_job_id

__all__ = ["Job", "JobError", "JobQueueFullError", "Jobs", "NewJob", "State", "new_job_id"]
