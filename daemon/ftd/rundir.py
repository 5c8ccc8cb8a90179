"""Run directories: the layout of runs/<job>, made and removed by the daemon and filled by the job's processes.

    RunDirectories(root).create(job) -> RunDirectory      raises DiskFull; again for the same job: no change
    RunDirectories(root).get(job_id) -> RunDirectory      no I/O
    RunDirectories(root).delete(job_id)                   rename, then remove; unknown: no error
    RunDirectory: path, events_path, logs_path, output_path, attempt(n) -> Path,
                  latest_checkpoint() -> str, artifacts(output="") -> tuple[Artifact, ...]   blocking: call in a thread
"""
